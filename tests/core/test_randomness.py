from __future__ import annotations

from gr_jax.core import randomness


def test_streams_depend_on_their_name_alone():
    one = randomness.stream(7, "a", 1).integers(1 << 30, size=8)
    randomness.stream(7, "b", 1).integers(1 << 30, size=100)
    again = randomness.stream(7, "a", 1).integers(1 << 30, size=8)
    assert one.tolist() == again.tolist()
    others = [(8, "a", 1), (7, "b", 1), (7, "a", 2), (7, "a", "1x")]
    for seed, purpose, index in others:
        other = randomness.stream(seed, purpose, index).integers(1 << 30, size=8)
        assert other.tolist() != one.tolist()


def test_ranks_are_uniform_enough_and_nested():
    ranks = [randomness.rank_of(0, "x", str(i)) for i in range(4000)]
    for share in (0.1, 0.5, 0.9):
        below = sum(r < share for r in ranks) / len(ranks)
        assert abs(below - share) < 0.03
    assert all(0 <= r < 1 for r in ranks)


def test_seeds_fit_a_signed_word():
    assert all(0 <= randomness.seed_of(s, "p") < 2**31 for s in range(100))
