"""SentencePiece vocabularies: trained the same way every time, read without TensorFlow.

Ids: padding 0, end 1, unknown 2, separator 3 (the first decoder input of decoder-only
models), then extra control pieces if asked for, the 256 bytes, and the learnt pieces.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece

from gr_jax.core import artifacts, errors

KIND = "vocabulary"
SCHEMA_VERSION = 1
MODEL_FILE = "vocab.model"
PAD = 0
EOS = 1
UNK = 2
SEP = 3
SEP_PIECE = "<sep>"
_CONTROLS = 4
_BYTES = 256
_CHUNK_CHARACTERS = 1000
# Enough text for 4,096 good pieces in a few seconds; more mostly costs time.
_TRAINING_CHARACTERS = 1_200_000


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Text to piece ids and back.

    Attributes:
      path: The SentencePiece model file; SeqIO reads the same.
    """

    path: Path

    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(self.path.read_bytes())
        except (OSError, RuntimeError):
            raise errors.ArtifactError(
                f"{self.path}: not a SentencePiece model: make it anew"
            ) from None
        return processor

    @cached_property
    def size(self) -> int:
        """How many ids there are, controls and bytes included."""
        return self._processor.GetPieceSize()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model file."""
        return artifacts.sha256_file(self.path)

    def encode(self, text: str) -> list[int]:
        """Piece ids of a text, without an end piece.

        A text cannot make control pieces: a written ``<sep>`` is spelt out.
        """
        return self._processor.EncodeAsIds(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of many texts, without end pieces; uses every core."""
        return self._processor.Encode(list(texts), out_type=int, num_threads=-1)

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Model inputs of query or document texts: their pieces, then the end piece.

        Training, decoding and scoring all feed a model through this one form.
        """
        return [[*ids, EOS] for ids in self.encode_batch(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of piece ids; padding and control pieces leave nothing.

        Raises:
          UsageError: If an id is not of this vocabulary.
        """
        wanted = [int(i) for i in ids]
        for i in wanted:
            if not 0 <= i < self.size:
                raise errors.UsageError(
                    f"{self.path}: id: {i}: at most {self.size - 1}"
                )
        return self._processor.DecodeIds(wanted)

    def piece(self, id: int) -> str:
        """The written form of one id, for inspection."""
        return self._processor.IdToPiece(id)


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """Texts in pieces of at most 1,000 characters, cut between words.

    SentencePiece passes over longer sentences in silence.
    """
    for text in texts:
        words = text.split()
        line: list[str] = []
        length = 0
        for word in words:
            for start in range(0, len(word), _CHUNK_CHARACTERS):
                part = word[start : start + _CHUNK_CHARACTERS]
                if length + len(part) + 1 > _CHUNK_CHARACTERS and line:
                    yield " ".join(line)
                    line, length = [], 0
                line.append(part)
                length += len(part) + 1
        if line:
            yield " ".join(line)


def _place(seed: int, line: str) -> bytes:
    return hashlib.blake2b(line.encode(), digest_size=16, salt=_salt(seed)).digest()


def _salt(seed: int) -> bytes:
    return int(seed).to_bytes(16, "little", signed=True)


def _training_lines(
    texts: Iterable[str], characters: int, seed: int
) -> tuple[list[str], dict[str, int]]:
    """Distinct lines up to a budget, chosen and ordered by hash.

    So neither the order of the texts nor their repetition moves the vocabulary.
    """
    lines = sorted(set(_chunks(texts)), key=lambda line: _place(seed, line))
    kept: list[str] = []
    total = 0
    for line in lines:
        if total >= characters:
            break
        kept.append(line)
        total += len(line)
    facts = {
        "lines seen": len(lines),
        "lines used": len(kept),
        "characters used": total,
    }
    return kept, facts


def train(
    texts: Iterable[str],
    folder: Path,
    *,
    pieces: int = 4096,
    seed: int = 0,
    extra: Sequence[str] = (),
    characters: int = _TRAINING_CHARACTERS,
    inputs: dict[str, str] | None = None,
) -> Vocabulary:
    """Trains a unigram vocabulary with byte fallback and stores it.

    Equal texts, in any order, give an equal model file.

    Args:
      texts: What to learn from.
      folder: Written whole or not at all.
      pieces: Ids asked for, controls and bytes included. Where the texts cannot fill
        them there are fewer; the manifest's facts say so.
      seed: Chooses the sample where there is more text than ``characters``.
      extra: Control pieces after the separator, such as ``<title>``.
      characters: Budget of text; the rest is not looked at.
      inputs: Digests of where the texts come from.

    Raises:
      InputError: If there is no text.
      UsageError: If ``pieces`` cannot hold controls, bytes and a letter.
    """
    least = _CONTROLS + len(extra) + _BYTES + 1
    if pieces < least:
        raise errors.UsageError(f"vocabulary: pieces: {pieces}: at least {least}")
    lines, facts = _training_lines(texts, characters, seed)
    if not lines:
        raise errors.InputError("vocabulary: texts: no words: give some text")
    model = _trained(lines, pieces, [SEP_PIECE, *extra])
    config: dict[str, Any] = {
        "pieces": pieces,
        "extra": list(extra),
        "characters": characters,
    }
    with artifacts.staged(folder) as staged:
        (staged / MODEL_FILE).write_bytes(model)
        size = Vocabulary(staged / MODEL_FILE).size
        artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            config=config,
            seeds={"vocabulary": seed},
            inputs=inputs,
            facts={"pieces": size, "pieces asked for": pieces, **facts},
        )
    return load(folder)


def _trained(lines: list[str], pieces: int, controls: list[str]) -> bytes:
    writer = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=writer,
            model_type="unigram",
            vocab_size=pieces,
            # Too little text gives fewer pieces instead of a failure.
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=0.9995,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            bos_id=-1,
            control_symbols=controls,
            num_threads=1,
            shuffle_input_sentence=False,
            max_sentence_length=8 * _CHUNK_CHARACTERS,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[-1]
        raise errors.InputError(
            f"vocabulary: pieces: {pieces}: {reason}: give more text or other pieces"
        ) from None
    return writer.getvalue()


def adopt(path: Path, folder: Path) -> Vocabulary:
    """Stores a SentencePiece model made elsewhere, such as T5's.

    Raises:
      ArtifactError: If the file is no model, or its padding, end and unknown pieces
        have other ids than here. Its separator may be missing: only decoder-only
        models read one.
    """
    if not path.is_file():
        raise errors.ArtifactError(f"{path}: missing: give a SentencePiece model")
    given = Vocabulary(path)
    _checked_controls(given, {PAD: "<pad>", EOS: "</s>", UNK: "<unk>"})
    has_separator = given.size > SEP and given.piece(SEP) == SEP_PIECE
    with artifacts.staged(folder) as staged:
        (staged / MODEL_FILE).write_bytes(path.read_bytes())
        artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            inputs={path.name: given.fingerprint},
            facts={"pieces": given.size, "has separator": has_separator},
        )
    return load(folder)


def load(folder: Path) -> Vocabulary:
    """A stored vocabulary, verified.

    Raises:
      ArtifactError: If it is missing, changed, or has other ids for its controls.
    """
    manifest = artifacts.read_manifest(folder, kind=KIND, schema_version=SCHEMA_VERSION)
    vocabulary = Vocabulary(folder / MODEL_FILE)
    expected = {PAD: "<pad>", EOS: "</s>", UNK: "<unk>"}
    if manifest.facts.get("has separator", True):
        expected[SEP] = SEP_PIECE
    _checked_controls(vocabulary, expected)
    return vocabulary


def _checked_controls(vocabulary: Vocabulary, expected: dict[int, str]) -> None:
    for id, piece in expected.items():
        if vocabulary.size <= id or vocabulary.piece(id) != piece:
            found = vocabulary.piece(id) if id < vocabulary.size else None
            raise errors.ArtifactError(
                errors.fault(
                    vocabulary.path,
                    f"id {id}",
                    found,
                    f"{piece} is needed there: train one with gr-jax vocab",
                )
            )
