"""Likelihood of identifiers; evidence of documents."""
