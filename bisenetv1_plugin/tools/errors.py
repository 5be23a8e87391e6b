"""What the tools refuse, in a sentence."""


class UserError(Exception):
    """Something the user can put right; shown as one sentence, without a traceback."""
