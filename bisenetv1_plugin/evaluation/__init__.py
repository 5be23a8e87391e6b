"""Masks against the truth and against each other."""
