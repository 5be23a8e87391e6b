"""What this package refuses."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """What was given (a file, a value, this machine) cannot be used; the message is a sentence that names the cure."""


def line(sentence: str) -> str:
    """A sentence for a terminal: one line, in which a file's name gives the terminal no orders."""
    words = " ".join(sentence.split("\n"))
    return "".join(c if c.isprintable() or ord(c) > 0x9F else repr(c)[1:-1] for c in words)


def lines(text: str) -> str:
    """As `line`, for a text of several lines."""
    return "\n".join(map(line, text.split("\n")))


def brief(error: object) -> str:
    """What another library's error says, for a sentence: one line, at most 200 characters."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."
