"""Collections, vocabulary, SeqIO tasks and array shards."""
