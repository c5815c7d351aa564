"""SeqIO tasks, registered by one parametric call."""
