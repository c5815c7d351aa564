"""Loss, optimizer, one jitted step, a thin loop, checkpoints."""
