"""Metrics, contrastive metrics, run files and tests. No JAX."""
