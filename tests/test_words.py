"""Turns of phrase that readers of this repository had to read twice, each with the plain form."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLAIN_FORMS = {
    r"leaves? .{1,20} away\b": "omit it",
    r"who is (killed|impatient|refused|cut off)\b": "name the process or the client: a killed process",
    r"\b(for|of) who\b": "for whoever; of users who",
    r"so as to\b": "to",
    r"there(of|by|from|upon)\b": "of it, by it, from it",
    r"none of them is there\b": "all of them are missing",
    r"hears? (of|so|why)\b": "is warned of it, gets the reason",
    r"what (was|is|can be) made of (it|them)\b": "the result",
    r"what became of\b": "the outcome of, the state of",
    r"has to say\b": "its output, its messages",
    r"gives? (itself|himself) away\b": "shows",
    r"\b(is|are) not waited for\b": "name the limit: is disconnected after a minute",
    r"\b(is|are) so old\b": "is older",
    r"\b(telephone|last words)\b": "send statistics; last lines",
}
# A space in a pattern also matches the end of a line, with the comment sign or the quotes of the next.
TURNS = {re.compile(turn.replace(" ", r"(?:[\s#]|\"\s+f?\")+")): turn for turn in PLAIN_FORMS}


def found_turns(text):
    """(line, turn) of every turn in a text."""
    text = text.lower()
    return [(text.count("\n", 0, m.start()) + 1, turn) for regex, turn in TURNS.items() for m in regex.finditer(text)]


def test_plain_words():
    paths = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    paths += [path for folder in ("bisenetv1_plugin", "tests") for path in (ROOT / folder).rglob("*.py")]
    faults = [
        f'{path.relative_to(ROOT)}:{line}: "{turn}"; write: {PLAIN_FORMS[turn]}'
        for path in sorted(paths)
        if path != Path(__file__).resolve() and "zh" not in path.parts
        for line, turn in found_turns(path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text", ["Leave the flag away.", "# a page for\n    # who waits", '"it is done so "\n    f"as to end"', "so\nas to"]
)
def test_turns_are_found(text):
    assert len(found_turns(text)) == 1
    assert found_turns("Omit the flag. Therefore it is for whoever waits; whose is it?") == []
