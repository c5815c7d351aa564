"""Identifiers of documents and the host side of constraint indexes."""
