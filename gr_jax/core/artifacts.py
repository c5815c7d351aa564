"""Folders that cross stages: written whole or not at all, verified before use.

Each artefact is a folder with one ``manifest.json``: kind, schema version, argv,
operative config, commit, seeds, SHA-256 of its inputs and of every file in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

from gr_jax.core import errors

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20
_SAMPLED_FILES = 4
_PACKAGES = ("gr-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

Verify = Literal["full", "sampled", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder holds and where it comes from."""

    kind: str
    schema_version: int
    argv: list[str]
    config: dict[str, Any]
    commit: str
    versions: dict[str, str]
    seeds: dict[str, int]
    inputs: dict[str, str]
    files: dict[str, str]
    facts: dict[str, Any]


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no white space, so that equal values hash equally."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_hash(value: object) -> str:
    """SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all (temporary file, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
      ArtifactError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.ArtifactError(f"{path}: missing: make it first") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise errors.ArtifactError(
            f"{path}: not JSON ({error}): make it anew"
        ) from None


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes one JSON object a line, the file whole or not at all."""
    lines = (json.dumps(r, ensure_ascii=False, allow_nan=False) for r in records)
    write_text(path, "".join(line + "\n" for line in lines))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file.

    Raises:
      ArtifactError: If the file is missing or a line is not a JSON object; the line is
        named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise errors.ArtifactError(f"{path}: missing: make it first") from None
    records: list[dict[str, Any]] = []
    # Not splitlines: texts may hold U+2028 and other characters that it breaks at.
    lines = text.removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise errors.ArtifactError(
                errors.fault(f"{path}:{number}", "line", line, f"not JSON: {error.msg}")
            ) from None
        if not isinstance(value, dict):
            raise errors.ArtifactError(
                errors.fault(f"{path}:{number}", "line", line, "write a JSON object")
            )
        records.append(cast(dict[str, Any], value))
    return records


@lru_cache(maxsize=1)
def commit() -> str:
    """The source tree's commit, `-dirty` if it has changes, or `unknown`."""
    folder = Path(__file__).resolve().parent
    command = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()
    return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in files}


def write_manifest(
    folder: Path,
    *,
    kind: str,
    schema_version: int,
    config: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
    inputs: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Seals a folder: digests every file in it and writes ``manifest.json`` last.

    Args:
      folder: The artefact; every file below it is digested.
      kind: What it is, such as ``collection`` or ``constraint-index``.
      schema_version: Version of the layout of its files.
      config: The operative configuration that made it.
      seeds: Every seed that made it, by purpose.
      inputs: Digest of each input, by name; use `digest_of` for artefacts.
      facts: Counts and other statements about the content.
    """
    manifest = Manifest(
        kind=kind,
        schema_version=schema_version,
        argv=list(sys.argv),
        config=dict(config or {}),
        commit=commit(),
        versions=versions(),
        seeds=dict(seeds or {}),
        inputs=dict(inputs or {}),
        files=_digests(folder),
        facts=dict(facts or {}),
    )
    write_json(folder / MANIFEST, dataclasses.asdict(manifest))
    return manifest


def read_manifest(
    folder: Path,
    *,
    kind: str | None = None,
    schema_version: int | None = None,
    verify: Verify = "full",
) -> Manifest:
    """The manifest of a folder, after checking the folder against it.

    Args:
      folder: The artefact.
      kind: The kind it must be.
      schema_version: The version it must have.
      verify: ``full`` digests every file, ``sampled`` four of them, ``none`` none;
        that every file is there is always checked.

    Raises:
      ArtifactError: Names the file that is missing, of another kind or version, or not
        the one that was written.
    """
    path = folder / MANIFEST
    value = read_json(path)
    try:
        manifest = Manifest(**value)
    except TypeError:
        raise errors.ArtifactError(f"{path}: not a manifest: make it anew") from None
    if kind is not None and manifest.kind != kind:
        raise errors.ArtifactError(
            errors.fault(path, "kind", manifest.kind, f"a {kind} is needed here")
        )
    if schema_version is not None and manifest.schema_version != schema_version:
        remedy = f"this version reads {schema_version}: make it anew"
        raise errors.ArtifactError(
            errors.fault(path, "schema_version", manifest.schema_version, remedy)
        )
    _verify_files(folder, manifest.files, verify)
    return manifest


def _verify_files(folder: Path, files: Mapping[str, str], verify: Verify) -> None:
    step = max(1, len(files) // _SAMPLED_FILES) if verify == "sampled" else 1
    for place, (name, digest) in enumerate(sorted(files.items())):
        path = folder / name
        if not path.is_file():
            raise errors.ArtifactError(f"{path}: missing: make {folder} anew")
        if verify == "none" or place % step:
            continue
        if sha256_file(path) != digest:
            raise errors.ArtifactError(
                f"{path}: not the file that was written (SHA-256 differs): "
                f"make {folder} anew"
            )


def digest_of(folder: Path) -> str:
    """One hash for an artefact: that of its kind, version and files' digests."""
    manifest = read_manifest(folder, verify="none")
    return content_hash([manifest.kind, manifest.schema_version, manifest.files])


@contextlib.contextmanager
def staged(folder: Path) -> Generator[Path]:
    """A temporary folder that becomes ``folder`` only if the block ends well.

    An older folder of that name is replaced after the new one is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.tmp-"))
    temporary.chmod(0o755)
    try:
        yield temporary
        if folder.exists():
            old = Path(
                tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old-")
            )
            os.replace(folder, old / "old")
            os.replace(temporary, folder)
            shutil.rmtree(old)
        else:
            os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Holds a folder for this process alone.

    The lock names process and host; one left by a dead process of this host is taken
    over.

    Raises:
      UsageError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock.json"
    mine = {"pid": os.getpid(), "host": socket.gethostname()}
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            break
        except FileExistsError:
            _refuse_or_clear(path, folder)
        except OSError as error:
            raise errors.UsageError(
                f"{folder}: cannot be written ({error.strerror}): choose another folder"
            ) from None
    with os.fdopen(handle, "w") as file:
        json.dump(mine, file)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _refuse_or_clear(path: Path, folder: Path) -> None:
    try:
        holder: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return
    except json.JSONDecodeError:
        holder = {}
    host, pid = holder.get("host"), holder.get("pid")
    if host == socket.gethostname() and isinstance(pid, int) and not _is_alive(pid):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    raise errors.UsageError(
        f"{folder}: in use by process {pid} on {host}: wait for it, or remove "
        f"{path.name} there if that process is gone"
    )
