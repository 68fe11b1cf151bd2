"""Species, element bookkeeping, scaling and conservation."""
