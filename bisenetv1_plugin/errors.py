"""The error that this package raises for wrong input, and its form on a terminal."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """The input (a file, a value, this machine) cannot be used; the message is a sentence that names the cure."""


def line(sentence: str) -> str:
    """A sentence for a terminal: on one line, with control characters escaped, which file names may contain."""
    words = " ".join(sentence.split("\n"))
    return "".join(c if c.isprintable() or ord(c) > 0x9F else repr(c)[1:-1] for c in words)


def lines(text: str) -> str:
    """Like `line`, for a text of several lines."""
    return "\n".join(map(line, text.split("\n")))


def brief(error: object) -> str:
    """The message of another library's error: on one line, about 200 characters at most."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if len(message) <= 200 else f"{message[:200]} ..."
