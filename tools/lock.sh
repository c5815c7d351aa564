#!/usr/bin/env bash
# Renews requirements.lock and requirements-parity.lock from pyproject.toml.
# Needs uv on PATH. Pins Python 3.11's newest working set (docs/dependencies.md).
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--quiet --python-version 3.11 --no-header --no-annotate)
uv pip compile "${common[@]}" --extra data --extra cache --extra test pyproject.toml \
  -o requirements.lock
uv pip compile "${common[@]}" -c requirements.lock --extra parity pyproject.toml |
  # A CPU build of torch needs none of these; other builds bring their own.
  grep -vE '^(nvidia|cuda|triton)' |
  grep -vxFf requirements.lock > requirements-parity.lock
