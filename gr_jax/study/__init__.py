"""Grids of runs: expand, run what is missing, resume."""
