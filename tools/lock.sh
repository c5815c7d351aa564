#!/usr/bin/env bash
# Renews the lock files from pyproject.toml: requirements.lock and requirements-parity.lock,
# Python 3.11's newest working set, and those of the two lanes, the newest releases that the
# ranges admit on Python 3.12 and their floors on 3.11 (docs/dependencies.md).
# Needs uv on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--quiet --python-version 3.11 --no-header --no-annotate)
uv pip compile "${common[@]}" --extra data --extra cache --extra test pyproject.toml \
  -o requirements.lock
uv pip compile "${common[@]}" -c requirements.lock --extra parity pyproject.toml |
  # A CPU build of torch needs none of these; other builds bring their own.
  grep -vE '^(nvidia|cuda|triton)' |
  grep -vxFf requirements.lock > requirements-parity.lock
lane() { # name, Python, resolution
  uv pip compile --quiet --no-header --no-annotate --python-version "$2" \
    --resolution "$3" --extra data --extra test pyproject.toml -o "requirements-$1.lock"
}
lane newest 3.12 highest
lane floors 3.11 lowest-direct
