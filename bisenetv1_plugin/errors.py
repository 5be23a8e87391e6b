"""What this package refuses."""


class InputError(ValueError):
    """What was given (a file, a value, this machine) cannot be used; the message is a sentence that names the cure."""
