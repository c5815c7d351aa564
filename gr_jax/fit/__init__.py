"""Scaling laws, their uncertainty and the planner. No JAX outside solve."""
