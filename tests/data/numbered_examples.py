"""Examples that say who they are."""

from __future__ import annotations

from gr_jax.data import arrays


def make(count: int, *, longest: int = 4) -> arrays.Examples:
    """Sources are [e+10]*k + [1] and targets [e+10, 1]: rows tell who they are."""
    sources = [[e + 10] * (1 + e % longest) + [1] for e in range(count)]
    targets = [[e + 10, 1] for e in range(count)]
    names = [f"q{e // 2}" for e in range(count)]
    return arrays.from_rows(sources, targets, names, [e % 2 for e in range(count)])
