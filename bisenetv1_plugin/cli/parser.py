"""The parser of the command line: argparse's, with a suggestion for a misspelled command or flag."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, Iterable, Mapping, NoReturn


class Parser(argparse.ArgumentParser):
    _commands: Mapping[str, Parser] = {}  # subcommands by name

    def add_subparsers(self, **keywords: Any) -> Any:
        commands = super().add_subparsers(**keywords)
        self._commands = commands.choices
        return commands

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        if not self._words and self._commands:
            self.print_help(sys.stderr)
            self.exit(2)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        parser, sentence = self._find_unknown_word()
        self.exit(2, f"{parser.prog}: {sentence or message}\nSee `{parser.prog} --help`.\n")

    def _find_unknown_word(self) -> tuple[argparse.ArgumentParser, str | None]:
        """The parser of the named command, and a sentence about the first unknown word, or None."""
        parser = self
        for word in self._words:
            if word == "--":
                break
            if word.startswith("--"):
                flag, known = word.partition("=")[0], parser._option_string_actions
                if not any(option.startswith(flag) for option in known):
                    return parser, _unknown("flag", flag, known)
            elif not word.startswith("-") and parser._commands:
                if word not in parser._commands:
                    return parser, _unknown("command", word, parser._commands)
                parser = parser._commands[word]
        return parser, None


def _unknown(kind: str, word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"there is no {kind} {word}" + (f"; did you mean {near[0]}?" if near else ".")
