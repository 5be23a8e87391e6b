"""Compare masks with labels, and with each other."""
