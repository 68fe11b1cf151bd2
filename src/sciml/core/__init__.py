"""What all domains share: tasks, data modules, loading, averaging, resuming."""
