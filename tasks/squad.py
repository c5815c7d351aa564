"""Tasks of SQuAD's collections, of the study that ``GR_JAX_STUDY`` names."""

from __future__ import annotations

from tasks import collection

REGISTERED = collection.register_from_environment(("squad", "squad-1k"))
