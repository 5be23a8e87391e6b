"""The command `bisenetv1`: PaddleSeg's tools for machines with no checkout of it, and this plugin's own."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from argparse import Namespace
from contextlib import nullcontext, suppress
from typing import Sequence, TextIO

from bisenetv1_plugin import __version__, files
from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.cli.parser import Parser
from bisenetv1_plugin.errors import InputError, line
from bisenetv1_plugin.libraries import needs_paddle
from bisenetv1_plugin.machine import reuse_memory, use_all_cores, use_amd_vectors

# One module of this folder each, with SUMMARY, add_arguments(parser) and run(args). Only `run` imports Paddle, and only
# of the first ones; they hide what it says, unless --verbose is given.
_WITH_PADDLE = (
    *("demo", "train", "val", "predict", "export", "quantize", "infer", "verify"),
    *("app", "serve", "benchmark", "convert", "data"),
)
COMMANDS = (*_WITH_PADDLE, "configs", "curves", "doctor", "run")


def parser(names: Sequence[str] = COMMANDS) -> Parser:
    """The parser of these commands; what it parses has `run`, the function to call with it."""
    parser = Parser(prog="bisenetv1", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name in names:
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        module.add_arguments(command)
        if name in _WITH_PADDLE:
            terminal.add_argument(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done, 1 done with faults that were named, 2 refused, 130 stopped, 141 stopped because nobody reads its output.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that it cannot write is no reason to end
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    # Where a command is named, it alone is imported: all of them take as long as the network of a small picture.
    args = parser(words[:1] if words and words[0] in COMMANDS else COMMANDS).parse_args(words)
    args.words = list(words)
    use_all_cores()
    use_amd_vectors()
    reuse_memory()
    # Pillow's, of an image that it thinks large: it runs all the same, and one of twice as many pixels is refused.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit", RuntimeWarning)
    try:
        _refuse_nothing(args)
        # `run`'s errors are the script's own.
        missing = nullcontext() if args.command == "run" else needs_paddle()
        with flags.trust_weights(args), terminal.session(args), missing:
            code = args.run(args) or 0
        if sys.stdout:  # None where it is closed from the start
            sys.stdout.flush()
        return code
    except InputError as error:
        sentence = str(error)
    except OSError as error:  # the disk is full, the folder is another user's, ...
        if args.command != "run" and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC):
            _drop(sys.stdout)  # most files would have a name: it is what is printed, or what a library writes
            if error.errno == errno.EPIPE:  # as of `| head -1`
                try:
                    print("bisenetv1: stopped, for nobody reads its output any more.", file=sys.stderr, flush=True)
                except OSError:  # of `2>&1 | head -1`
                    _drop(sys.stderr)
                return 141
            error.filename = "the output"
        refusal = files.refusal(error)
        if refusal is None or args.command == "run":
            raise
        sentence = refusal
    except KeyboardInterrupt:
        if args.command == "run":
            raise
        later = "; the same command with --resume_model latest goes on from the newest checkpoint, if there is one"
        print(f"bisenetv1: stopped{later if args.command == 'train' else ''}.", file=sys.stderr)
        return 130
    print(f"bisenetv1: {line(sentence)}", file=sys.stderr)
    return 2


def _drop(stream: TextIO) -> None:
    """Let what is still to be printed go nowhere: at the end Python would fail at it once more."""
    with suppress(AttributeError, OSError, ValueError):  # of a stream that is no file, as in a notebook
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _refuse_nothing(args: Namespace) -> None:
    """Raise where a word is empty, as of a variable of the shell that is not set: to some it would mean this folder."""
    for name, value in vars(args).items():
        if value == "":
            raise InputError(f"{name} is empty: write what it is for, or omit it.")
