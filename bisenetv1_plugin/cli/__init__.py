"""Train, evaluate, export and run BiSeNetV1 with PaddleSeg."""

from __future__ import annotations

import errno
import importlib
import os
import select
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

# Each command is a module of this folder, with SUMMARY, add_arguments(parser) and run(args). Only `run` may import
# Paddle, and only in these commands. They hide Paddle's output unless --verbose is given.
_WITH_PADDLE = (
    *("demo", "train", "val", "predict", "export", "quantize", "infer", "verify"),
    *("app", "serve", "benchmark", "convert", "data"),
)
COMMANDS = (*_WITH_PADDLE, "configs", "curves", "doctor", "run")


def parser(names: Sequence[str] = COMMANDS) -> Parser:
    """The parser of these commands. The namespace that it returns has `run`, the command's function."""
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
    """Run one command and return its exit code.

    0: success. 1: finished, with faults reported. 2: refused. 130: interrupted. 141: the reader of its output is gone.
    143: SIGTERM ended a training.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name that the encoding lacks must not end the command
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    # Import only the command that is named: importing all of them takes as long as segmenting a small picture.
    args = parser(words[:1] if words and words[0] in COMMANDS else COMMANDS).parse_args(words)
    args.words = list(words)
    use_all_cores()
    use_amd_vectors()
    reuse_memory()
    # Pillow warns of a large image and opens it. It refuses an image of twice as many pixels.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit", RuntimeWarning)
    try:
        _refuse_empty_values(args)
        # The errors of `run` belong to the script.
        missing = nullcontext() if args.command == "run" else needs_paddle()
        with flags.trust_weights(args), terminal.session(args), missing:
            code = args.run(args) or 0
        if sys.stdout:  # None if it was closed before Python started
            sys.stdout.flush()
        return code
    except InputError as error:
        sentence = str(error)
    except OSError as error:  # the disk is full, the folder is another user's, ...
        if args.command != "run" and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC):
            # An error without a file name is about printed output, or about a library's file or pipe.
            if error.errno == errno.EPIPE:
                broken = [stream for stream in (sys.stdout, sys.stderr) if _has_lost_reader(stream)]
                if not broken:
                    raise
                for stream in broken:  # stdout with `| head -1`, both with `2>&1 | head -1`
                    _discard(stream)
                return 141
            _discard(sys.stdout)
            error.filename = "the output"
        refusal = files.refusal(error)
        if refusal is None or args.command == "run":
            raise
        sentence = refusal
    except KeyboardInterrupt as error:
        if args.command == "run":
            raise
        later = "; add --resume_model latest to continue from the newest checkpoint, if there is one"
        print(f"bisenetv1: stopped{later if args.command == 'train' else ''}.", file=sys.stderr)
        return 143 if isinstance(error, terminal.Terminated) else 130
    print(f"bisenetv1: {line(sentence)}", file=sys.stderr)
    return 2


def _has_lost_reader(stream: TextIO | None) -> bool:
    """Whether a stream is a pipe without a reader. Windows cannot tell, and the answer is True."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    try:
        poll.register(stream, 0)  # type: ignore[arg-type]
    except (OSError, TypeError, ValueError):  # None, closed, or not a file, as in a notebook
        return False
    return bool(poll.poll(0))


def _discard(stream: TextIO) -> None:
    """Discard what is still buffered: Python would fail again when it flushes the stream at exit."""
    with suppress(AttributeError, OSError, ValueError):  # a stream may not be a file, as in a notebook
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _refuse_empty_values(args: Namespace) -> None:
    """Raise if a value is empty, as from an unset shell variable: some commands would take it for this folder."""
    for name, value in vars(args).items():
        if value == "":
            raise InputError(f"{name} is empty: give it a value, or omit it.")
