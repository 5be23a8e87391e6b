"""Trained weights to an exported folder."""
