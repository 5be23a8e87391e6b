"""What this package refuses."""


class InputError(ValueError):
    """What was given (a file, a value, this machine) cannot be used; the message is a sentence that names the cure."""


def brief(error):
    """What another library's error says, for a sentence: one line, at most 200 characters."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."
