"""Files of pairs as SeqIO sources."""

from __future__ import annotations

from pathlib import Path

import seqio

from gr_jax.core import artifacts, errors
from gr_jax.data import pairs, tensorflow_cpu

SPLIT = "train"
tensorflow_cpu.hide_accelerators()


def pair_source(folder: Path, kind: pairs.Kind) -> seqio.TextLineDataSource:
    """The lines of one kind of pairs, shard after shard.

    Args:
      folder: As `pairs.save` writes it.
      kind: Which pairs.

    Raises:
      ArtifactError: If the folder is missing, not of pairs, or has none of this kind.
    """
    manifest = artifacts.read_manifest(
        folder, kind=pairs.KIND, schema_version=pairs.SCHEMA_VERSION, verify="none"
    )
    shards = int(manifest.facts["shards"])
    count = int(manifest.facts["pairs"][kind])
    if not count:
        raise errors.ArtifactError(f"{folder}: {kind} pairs: 0: make some")
    names = [pairs.shard_name(kind, shard, shards) for shard in range(shards)]
    return seqio.TextLineDataSource(
        split_to_filepattern={SPLIT: [str(folder / name) for name in names]},
        num_input_examples={SPLIT: count},
        # One file after the other: the order is that of the rows, whatever the shards.
        cycle_length=1,
        block_length=1,
    )
