"""Most of these tests' time is compiling, so they compile with less effort."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _light_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    # FLOPs are read from a program compiled as it is run.
    jax.config.update(name, "accounting" not in request.module.__name__)
    yield
    jax.config.update(name, before)
