"""Toy collections and brute-force oracles."""
