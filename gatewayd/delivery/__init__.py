"""Which job runs next on which bus, and one attempt at it."""
