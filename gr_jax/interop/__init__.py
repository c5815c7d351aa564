"""Adapters to systems that the user supplies."""
