"""Trained weights to a deployed network: export, quantise, run, compare. A library: it prints nothing and exits never.

What it refuses is an `errors.InputError`. Functions that take long take a `progress`, which wraps what they go through,
as `tqdm.tqdm` does.
"""
