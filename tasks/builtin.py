"""Tasks of the built-in collections, of the study that ``GR_JAX_STUDY`` names."""

from __future__ import annotations

from tasks import collection

REGISTERED = collection.register_from_environment(("pydocs", "synthetic"))
