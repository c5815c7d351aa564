from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import artifacts, errors
from gr_jax.data import vocabulary
from gr_jax.testing import toy


@pytest.fixture(scope="module")
def toy_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> vocabulary.Vocabulary:
    return toy.small_vocabulary(tmp_path_factory.mktemp("vocabulary") / "v")


def test_controls_have_fixed_ids(toy_vocabulary: vocabulary.Vocabulary) -> None:
    pieces = [toy_vocabulary.piece(id) for id in range(5)]
    assert pieces == ["<pad>", "</s>", "<unk>", "<sep>", "<0x00>"]
    assert toy_vocabulary.size == 320


def test_equal_texts_in_any_order_give_equal_models(
    toy_vocabulary: vocabulary.Vocabulary, tmp_path: Path
) -> None:
    texts = toy.texts()
    again = vocabulary.train([*reversed(texts), *texts], tmp_path / "v", pieces=320)
    assert again.fingerprint == toy_vocabulary.fingerprint
    other = vocabulary.train(texts[:-1], tmp_path / "w", pieces=320)
    assert other.fingerprint != again.fingerprint


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60))
def test_any_text_is_spelt_without_unknown_or_control_pieces(
    toy_vocabulary: vocabulary.Vocabulary, text: str
) -> None:
    ids = toy_vocabulary.encode(text)
    assert all(vocabulary.SEP < id < toy_vocabulary.size for id in ids)
    plain = " ".join(text.split())
    if plain.isascii():
        assert toy_vocabulary.decode(toy_vocabulary.encode(plain)) == plain


def test_known_words_come_back(toy_vocabulary: vocabulary.Vocabulary) -> None:
    for text in toy.texts():
        assert toy_vocabulary.decode(toy_vocabulary.encode(text)) == text
    assert toy_vocabulary.decode([0, 3, *toy_vocabulary.encode("tea"), 1, 0]) == "tea"


def test_a_written_control_piece_is_only_text(
    toy_vocabulary: vocabulary.Vocabulary,
) -> None:
    for text in ("<sep>", "</s>", "<pad>"):
        ids = toy_vocabulary.encode(text)
        assert min(ids) > vocabulary.SEP
        assert toy_vocabulary.decode(ids) == text


def test_batches_equal_single_texts(toy_vocabulary: vocabulary.Vocabulary) -> None:
    texts = toy.texts()
    single = [toy_vocabulary.encode(text) for text in texts]
    assert toy_vocabulary.encode_batch(texts) == single
    assert toy_vocabulary.encode_sources(texts) == [[*ids, 1] for ids in single]


def test_too_little_text_gives_fewer_pieces_and_says_so(tmp_path: Path) -> None:
    made = vocabulary.train(["two words"], tmp_path / "v")
    facts = artifacts.read_manifest(tmp_path / "v").facts
    assert facts["pieces asked for"] == 4096
    assert facts["pieces"] == made.size < 300
    assert made.decode(made.encode("words two")) == "words two"


def test_extra_control_pieces_follow_the_separator(tmp_path: Path) -> None:
    made = vocabulary.train(toy.texts(), tmp_path / "v", pieces=320, extra=["<title>"])
    assert made.piece(4) == "<title>"
    assert made.encode("<title>")[0] > 4


def test_long_texts_are_learnt_from_whole(tmp_path: Path) -> None:
    # SentencePiece alone passes over sentences above 4,192 bytes.
    text = " ".join(["common"] * 1000 + ["tailword"] * 400)
    made = vocabulary.train([text, "x" * 5000], tmp_path / "v", pieces=320)
    assert "\u2581tailword" in {made.piece(id) for id in range(made.size)}


def test_bad_requests_and_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="no words"):
        vocabulary.train(["", "  "], tmp_path / "v")
    with pytest.raises(errors.UsageError, match="at least 261"):
        vocabulary.train(["words"], tmp_path / "v", pieces=200)
    with pytest.raises(errors.ArtifactError, match="missing"):
        vocabulary.load(tmp_path / "v")
    made = toy.small_vocabulary(tmp_path / "v")
    with pytest.raises(errors.UsageError, match="id: 320"):
        made.decode([320])
    data = made.path.read_bytes()
    made.path.write_bytes(data[:-1])
    with pytest.raises(errors.ArtifactError, match=r"vocab\.model"):
        vocabulary.load(tmp_path / "v")
    made.path.write_bytes(b"nonsense")
    with pytest.raises(errors.ArtifactError, match="not a SentencePiece model"):
        vocabulary.Vocabulary(made.path).encode("x")


def foreign(path: Path, **ids: int) -> Path:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(toy.texts()),
        model_prefix=str(path),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return path.with_name(f"{path.name}.model")


def test_a_model_of_t5s_ids_is_taken_and_one_of_llamas_is_not(tmp_path: Path) -> None:
    t5 = foreign(tmp_path / "t5", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    taken = vocabulary.adopt(t5, tmp_path / "v")
    assert taken.fingerprint == vocabulary.Vocabulary(t5).fingerprint
    assert vocabulary.load(tmp_path / "v").encode("tea") == taken.encode("tea")
    assert artifacts.read_manifest(tmp_path / "v").facts["has separator"] is False
    llama = foreign(tmp_path / "llama", unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    with pytest.raises(errors.ArtifactError, match="id 0: '<unk>': <pad> is needed"):
        vocabulary.adopt(llama, tmp_path / "w")
    with pytest.raises(errors.ArtifactError, match="missing"):
        vocabulary.adopt(tmp_path / "no.model", tmp_path / "w")
