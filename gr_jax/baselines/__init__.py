"""BM25 and dense retrieval on the same axes."""
