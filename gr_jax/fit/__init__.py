"""Scaling laws, their uncertainty, their judgement and the planner. No JAX."""
