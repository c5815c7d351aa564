"""LLaMA 3's vocabulary on a byte-level tokenizer of the same kind made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from gr_jax.core import errors
from gr_jax.data import llama_vocabulary

TEXTS = ["Who wrote it? A poet!", "naïve 东京 🙂", "  two  spaces\n"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["who wrote the poem a poet wrote"] * 4, trainer)
    # LLaMA 3's special pieces stand after all others, so that "!" has id 0.
    made.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    file = tmp_path_factory.mktemp("llama") / "tokenizer.json"
    made.save(str(file))
    return file


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back(text: str, path: Path) -> None:
    tokens = llama_vocabulary.Tokens(path)
    ids = tokens.encode(text)
    assert tokens.decode(ids) == text
    assert tokens.decode([*ids, tokens.eos_id]) == text
    assert max(ids) < tokens.size


def test_zero_is_a_real_token_and_specials_come_last(path: Path) -> None:
    tokens = llama_vocabulary.Tokens(path)
    assert tokens.encode("!") == [0]
    assert tokens.eos_id == tokens.size - 1


def test_files_of_another_kind_are_refused(tmp_path: Path, path: Path) -> None:
    other = tmp_path / "tokenizer.json"
    other.write_text("{}")
    with pytest.raises(errors.ArtifactError, match=r"not a tokenizer\.json"):
        llama_vocabulary.Tokens(other)
    with pytest.raises(errors.ArtifactError, match="name one that it has"):
        llama_vocabulary.Tokens(path, eos_piece="<|eot_id|>")


def test_seqio_agrees_in_python_and_in_tensorflow(path: Path) -> None:
    seqio = pytest.importorskip("seqio")
    vocabulary = llama_vocabulary.seqio_vocabulary(str(path))
    assert isinstance(vocabulary, seqio.Vocabulary)
    tokens = llama_vocabulary.Tokens(path)
    assert vocabulary.vocab_size == tokens.size
    assert vocabulary.eos_id == tokens.eos_id
    assert vocabulary == llama_vocabulary.seqio_vocabulary(str(path))
    for text in TEXTS:
        ids = vocabulary.encode(text)
        assert ids == tokens.encode(text)
        encoded = vocabulary.encode_tf(text)
        assert encoded.numpy().tolist() == ids
        assert vocabulary.decode_tf(encoded).numpy().decode() == text
    # What follows the end piece is not text.
    ids = [*tokens.encode("a poet"), tokens.eos_id, 5, 6]
    assert vocabulary.decode(ids) == "a poet"
