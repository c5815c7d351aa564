"""What every stage shares: records, artefacts, seeds, errors. No JAX."""
