"""A configuration, what it builds, and its training."""
