"""Makes events: gammas, their light in the xenon, and what the sensors record of it."""
