"""Lines of text files that users write: lists, names, tables of colors."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from bisenetv1_plugin import image_files
from bisenetv1_plugin.errors import InputError

_MOST_BYTES = 1 << 28  # a list of a million images has less
_LONGEST = 10_000  # characters of a line: two paths have 8192 at most
_SHOWN = 300  # characters of a line in a sentence


def numbered_lines(path: str | Path, what: str) -> list[tuple[int, str]]:
    """The lines of a file that are not empty, each with its number from 1 on; see `all_lines`."""
    return [(number, line) for number, line in enumerate(all_lines(path, what), start=1) if line]


def all_lines(path: str | Path, what: str) -> list[str]:
    """The lines of a file, without spaces around them; a final line feed does not begin another line.

    Args:
        path: a regular UTF-8 file, with or without a byte order mark, with any kind of line ends.
        what: the kind of file, for messages: `list`, `table`, ...

    Raises:
        InputError: the file cannot be read, or is not text; the message names the file and the line.
    """
    path = Path(path)
    try:
        content = image_files.read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        raise InputError(f"the {what} {path} is not UTF-8 text ({why}): save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the {what} {path} cannot be read ({why}): save it as UTF-8 text.") from error
    # Not splitlines(), which also divides at Unicode separators that names may have
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise InputError(f"the {what} {path}, line {number} has a NUL in it: save it as UTF-8 text.")
        if len(line) > _LONGEST:
            raise InputError(
                f"the {what} {path}, line {number} has {len(line)} characters, but at most {_LONGEST} are allowed: "
                "write one entry per line."
            )
    return [line.strip() for line in lines]


def parse_color(words: Sequence[str]) -> tuple[int, int, int] | None:
    """Red, green and blue, if the words are three numbers from 0 to 255; else None."""
    if len(words) != 3 or not all(word.isdecimal() and len(word) < 4 and int(word) < 256 for word in words):
        return None
    return int(words[0]), int(words[1]), int(words[2])


def shorten(line: str) -> str:
    """A line for a message, cut if it is long."""
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def first_few(values: Sequence[object], most: int = 3) -> str:
    """The first values for a message, with dots for the others."""
    return ", ".join(map(str, values[:most])) + ", ..." * (len(values) > most)
