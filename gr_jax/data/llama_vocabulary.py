"""LLaMA 3's vocabulary for SeqIO: byte-level pieces read from ``tokenizer.json``.

LLaMA 3 has no padding token and a real token 0 ("!"). Here 0 stays what SeqIO pads
with: models mask only zeros at the end of a source, so a "!" inside a text is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers

from gr_jax.core import errors

END_OF_TEXT = "<|end_of_text|>"


class Tokens:
    """Text to LLaMA 3's ids and back, without TensorFlow.

    Attributes:
      path: The ``tokenizer.json`` that was read.
      size: How many ids there are, special ones included.
      eos_id: The id of the end piece.
    """

    def __init__(self, path: Path, *, eos_piece: str = END_OF_TEXT) -> None:
        """Reads a file.

        Args:
          path: A ``tokenizer.json``.
          eos_piece: The special piece that ends a target.

        Raises:
          ArtifactError: If it is no such file, or lacks that piece.
        """
        self.path = path
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            # The library raises bare `Exception` for every fault of the file.
            reason = errors.shown(str(error))
            raise errors.ArtifactError(
                f"{path}: not a tokenizer.json ({reason}): get it anew"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        eos_id = self._tokenizer.token_to_id(eos_piece)
        if eos_id is None:
            raise errors.ArtifactError(
                errors.fault(path, "end piece", eos_piece, "name one that it has")
            )
        self.eos_id: int = eos_id

    def encode(self, text: str) -> list[int]:
        """Ids of a text: no first piece and no end piece."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special pieces leave nothing."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)


class _Adapter:
    """What SeqIO asks of a vocabulary, answered by `Tokens`."""

    def __init__(self, path: str, eos_piece: str) -> None:
        super().__init__()
        self.path = path
        self._tokens = Tokens(Path(path), eos_piece=eos_piece)

    @property
    def eos_id(self) -> int:
        return self._tokens.eos_id

    @property
    def unk_id(self) -> None:
        """Byte-level pieces spell everything: nothing is unknown."""
        return None

    @property
    def _base_vocab_size(self) -> int:
        return self._tokens.size

    def _encode(self, s: Any) -> Sequence[int]:
        return self._tokens.encode(s.decode() if isinstance(s, bytes) else s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokens.decode(ids)

    def _encode_tf(self, s: Any) -> Any:
        tf = _tensorflow()

        def ids_of(text: Any) -> Any:
            return tf.constant(self._encode(text.numpy()), tf.int32)

        ids = tf.py_function(ids_of, [s], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: Any) -> Any:
        tf = _tensorflow()

        def texts_of(batch: Any) -> Any:
            rows = batch.numpy()
            if rows.ndim == 1:
                return tf.constant(self._decode(rows.tolist()))
            return tf.constant([self._decode(row) for row in rows.tolist()])

        return tf.py_function(texts_of, [ids], tf.string)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Adapter) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)


def _tensorflow() -> Any:
    import tensorflow

    return tensorflow


@lru_cache(maxsize=1)
def _seqio_class() -> Any:
    """The SeqIO class, made when first asked for: SeqIO brings TensorFlow."""
    import seqio

    return type("Vocabulary", (_Adapter, seqio.Vocabulary), {})


def seqio_vocabulary(path: str, *, eos_piece: str = END_OF_TEXT) -> Any:
    """A `seqio.Vocabulary` over a LLaMA 3 ``tokenizer.json``.

    Args:
      path: The file.
      eos_piece: The special piece that ends a target.

    Raises:
      ArtifactError: If it is no such file, or lacks that piece.
    """
    return _seqio_class()(path, eos_piece)
