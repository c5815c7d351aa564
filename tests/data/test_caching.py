from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gr_jax.core import artifacts, errors
from gr_jax.data import arrays, caching, pairs, task_builder


@pytest.fixture
def content(toy_folders: tuple[Path, Path]) -> task_builder.Content:
    return task_builder.Content(*toy_folders)


def test_a_cached_task_holds_the_same_examples_every_time(
    content: task_builder.Content, tmp_path: Path
) -> None:
    first = caching.cache(content, "query", tmp_path / "a")
    second = caching.cache(content, "query", tmp_path / "b")
    digests = [
        artifacts.read_manifest(f, kind="cached-task").files for f in (first, second)
    ]
    assert digests[0] == digests[1]
    task = task_builder.build(content, "query", cache_root=tmp_path / "a")
    assert task.cache_dir == str(first)
    task_builder.export(task, tmp_path / "cached", use_cached=True)
    plain = arrays.from_pairs(
        pairs.load(content.pairs_folder, ["query"]), content.vocab
    )
    cached = arrays.load(tmp_path / "cached")
    for field in vars(plain):
        np.testing.assert_array_equal(getattr(cached, field), getattr(plain, field))
    assert task.get_cached_stats()["examples"] == len(plain)


def test_beam_writes_the_same_bytes(
    content: task_builder.Content, tmp_path: Path
) -> None:
    pytest.importorskip("apache_beam")
    plain = caching.cache(content, "document", tmp_path / "a")
    beamed = caching.cache(content, "document", tmp_path / "b", beam=[])
    files = [artifacts.read_manifest(folder).files for folder in (plain, beamed)]
    assert files[0] == files[1]
    assert len([name for name in files[0] if "tfrecord" in name]) == 3


def test_another_content_never_meets_a_stale_copy(
    content: task_builder.Content, tmp_path: Path
) -> None:
    made = caching.cache(content, "query", tmp_path)
    part = dataclasses.replace(content, fraction=0.5)
    assert part.name("query") == content.name("query")
    assert task_builder.build(part, "query", cache_root=tmp_path).cache_dir is None
    other = caching.cache(part, "query", tmp_path)
    assert other != made


def test_every_changed_byte_and_missing_file_is_found(
    content: task_builder.Content, tmp_path: Path
) -> None:
    folder = caching.cache(content, "query", tmp_path)
    generator = np.random.default_rng(0)
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.stat().st_size and path.name != artifacts.MANIFEST
    ]
    for path in files:
        good = path.read_bytes()
        flipped = bytearray(good)
        flipped[generator.integers(len(good))] ^= 1 << int(generator.integers(8))
        for bad in (bytes(flipped), b"", good[: len(good) // 2], good[:-1]):
            path.write_bytes(bad)
            with pytest.raises(errors.ArtifactError, match=path.name.split("-")[0]):
                task_builder.build(content, "query", cache_root=tmp_path)
        path.write_bytes(good)
    (folder / "COMPLETED").unlink()
    with pytest.raises(errors.ArtifactError, match="COMPLETED: missing"):
        caching.cache(content, "query", tmp_path)
