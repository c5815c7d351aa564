"""Constrained beam search on device."""
