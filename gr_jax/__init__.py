"""Scaling laws of generative retrieval, in JAX."""
