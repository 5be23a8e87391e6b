"""What a command shows, and what goes into its log instead. Only the command line does this; an import changes nothing.

All goes into the log. Shown is what this package logs, and what PaddleSeg warns of; hidden are PaddleSeg's lines of
information, the warnings of other packages, and what others print in `quiet` blocks.

C++ writes to the descriptors 1 and 2 past Python, and both stay where they are: Paddle says why it crashed on the one,
C++ itself on the other, and nobody could bring that back from a file. So glog is told by its environment variable to
leave out what is below an error (such lines are in no log), and three lines of paddle2onnx are shown.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Iterator, TextIO

from bisenetv1_plugin import files, gpu
from bisenetv1_plugin.cli.log import Log
from bisenetv1_plugin.errors import InputError, line, lines
from bisenetv1_plugin.libraries import needs_paddle

_OURS, _COMMANDS, _CORRECTIONS = "bisenetv1_plugin", "bisenetv1_plugin.cli", "bisenetv1_plugin.compat"  # loggers
_PADDLESEG, _OTHERS = "paddleseg", "py.warnings"
_WARNINGS = 10  # of PaddleSeg, that are shown: it has one that comes for every tensor
# Those that nobody can act upon: the values that PaddleSeg fills in are the right ones, and the threads its own choice.
_USELESS = ("We suggest you manually set", "The number of threads used by OpenCV")
_GLOG, _ERRORS = "GLOG_minloglevel", "2"


class _Session(ExitStack):
    """One command: its log, and the user's streams, whatever `sys` has meanwhile. At its end all is as it was."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log, self.stdout, self.stderr = log, sys.stdout, sys.stderr
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s]\t%(message)s", "%Y-%m-%d %H:%M:%S"))
        self._handlers = [handler, _ScreenHandler(self)]

    def replace(self, owner: Any, name: str, value: object) -> None:
        self.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def capture(self, name: str) -> None:
        """A logger and those below it, which nobody else hears meanwhile."""
        logger = logging.getLogger(name)
        self.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.DEBUG)
        self.replace(logger, "propagate", False)
        self.replace(logger, "handlers", self._handlers)

    def write(self, text: str, file: TextIO) -> None:
        """A line, and every bar of the terminal after it."""
        from tqdm import tqdm

        with redirect_stdout(self.stdout), redirect_stderr(self.stderr):  # by which tqdm knows who shares a terminal
            tqdm.write(text, file=file)
        file.flush()


_session: _Session | None = None  # None: nothing is hidden


def add_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="print all that Paddle and PaddleSeg say; then no log")


def is_first() -> bool:
    """Whether this is the process that talks, of a training on several devices."""
    return os.environ.get("PADDLE_TRAINER_ID", "0") == "0"


def is_quiet() -> bool:
    """Whether anything is hidden: not with --verbose, nor in the other processes, whose output goes into files."""
    return _session is not None


@contextmanager
def session(args: Namespace) -> Iterator[None]:
    """A command from its beginning to its end; one without the flag --verbose hides nothing."""
    global _session
    if getattr(args, "verbose", True) or not is_first():
        yield
        return
    folder = getattr(args, "save_dir", None)
    _session = _Session(Log(Path(folder, f"{args.command}.log") if folder else None))
    with _session:
        try:
            _capture_loggers(_session)
            yield
        except BaseException as error:
            _end(_session, error)
            raise
        else:
            _end(_session, None)
        finally:
            _session = None


def load_paddle(device: str | None = None) -> str:
    """Import Paddle and PaddleSeg without their greetings; not before what they read from the environment is there.

    Args:
        device: that of --device; None where nobody named one.

    Returns:
        str: the device to run on, see `check_device`.

    Raises:
        InputError: one of them is not installed, or a GPU was named that this Paddle cannot run on.
    """
    with quiet(), needs_paddle():
        import paddleseg.core  # noqa: F401
        from paddleseg.utils import logger
    if _session is not None:
        _capture_paddleseg(logger, _session)
    return check_device(device)


def check_device(device: str | None) -> str:
    """The device to run on: the CPU, with a sentence, where nobody named one and a Paddle for GPUs cannot run on one.

    Raises:
        InputError: it cannot, and 'gpu' was named.
    """
    import paddle

    if device and device != "gpu":
        return device
    with quiet():
        sentence = gpu.obstacle(paddle)
        if sentence is None:
            return "gpu"
        if device:
            raise InputError(f"device gpu: {sentence} Choose device cpu.")
        paddle.set_device("cpu")
    warn(f"{sentence} The CPU is used meanwhile.")
    return "cpu"


def log_at_once() -> None:
    """From now on, what is said is in the log at once: the work takes long, and may be killed."""
    if _session is not None:
        _session.log.live = True


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which nobody in Python is heard but loggers, `say`, `warn` and bars."""
    if _session is None:
        yield
        return
    with redirect_stdout(_session.log), redirect_stderr(_session.log):
        yield


def say(text: str) -> None:
    """A line for the user, past every bar; in a training on several devices, from the first process alone."""
    text = lines(text)
    if _session is not None:
        logging.getLogger(_COMMANDS).info(text)
    elif is_first():
        print(text, flush=True)


def warn(sentence: object) -> None:
    """What the user should mind; the command goes on."""
    if _session is not None:
        logging.getLogger(_COMMANDS).warning(sentence)
    else:
        print(f"bisenetv1: {line(str(sentence))}", file=sys.stderr)


def stderr() -> TextIO:
    """The user's."""
    return _session.stderr if _session else sys.stderr


class _ScreenHandler(logging.Handler):
    """Shows what the user should see of what is logged."""

    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session
        self._messages: set[str] = set()
        self._warnings = 0

    def emit(self, record: logging.LogRecord) -> None:
        name, message, is_warning = record.name, record.getMessage(), record.levelno >= logging.WARNING
        if name.split(".")[0] != _OURS:
            if name == _OTHERS or not is_warning or any(words in message for words in _USELESS):
                return
            self._warnings += 1
            if self._warnings > _WARNINGS + 1:
                return
            if self._warnings > _WARNINGS:
                path = self._session.log.path
                where = f"are in {path}" if path else "are shown with --verbose"
                message = f"there are more warnings; all of them {where}."
        elif name != _COMMANDS:
            # A network that is built twice is one to the user, and what a correction did is no news to act upon.
            if message in self._messages or (name.startswith(_CORRECTIONS) and not is_warning):
                return
            self._messages.add(message)
        if is_warning:
            self._session.write(f"bisenetv1: {line(message)}", self._session.stderr)
        else:
            self._session.write(message, self._session.stdout)


def _capture_loggers(session: _Session) -> None:
    """To this package, Python's warnings and the errors of threads; and have glog say less, which Paddle reads once."""

    def excepthook(args: Any, original: Any = threading.excepthook) -> None:
        # A full disk is told in a sentence by who waits for the thread.
        with redirect_stderr(session.log if _is_refusal(args.exc_value) else session.stderr):
            original(args)

    session.capture(_OURS)
    session.capture(_OTHERS)
    session.callback(logging.captureWarnings, False)
    logging.captureWarnings(True)
    session.replace(threading, "excepthook", excepthook)
    if not {_GLOG, "GLOG_v"} & set(os.environ):
        os.environ[_GLOG] = _ERRORS
        session.callback(os.environ.pop, _GLOG, None)


def _capture_paddleseg(logger: Any, session: _Session) -> None:
    """PaddleSeg's logger: functions of a module, in its later versions those of `logging`."""
    if hasattr(logger, "logger_initialized"):
        for name in logger.logger_initialized:
            session.capture(name)
        return

    def log(level: int = 2, message: object = "") -> None:
        logging.getLogger(_PADDLESEG).log(logging.getLevelName(logger.levels[level]), message)

    session.capture(_PADDLESEG)
    session.replace(logger, "log", log)


def _is_refusal(error: BaseException | None) -> bool:
    return isinstance(error, InputError) or (isinstance(error, OSError) and files.refusal(error) is not None)


def _end(session: _Session, error: BaseException | None) -> None:
    """The log gets the end as well, and the user hears where it is."""
    log, said, refused = session.log, session.log.held, _is_refusal(error)
    if refused:
        log.write(f"bisenetv1: {error}\n")
    elif error is not None:
        log.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    log.finish(keep=not refused)
    if log.is_written:
        session.write(f"The log is in {log.path}", session.stderr if error else session.stdout)
    elif refused or isinstance(error, KeyboardInterrupt):  # one sentence is enough
        pass
    elif error is not None:  # nobody else has it; the traceback comes from Python
        session.stderr.write(said)
    elif log.fault:
        session.write(f"bisenetv1: there is no whole log. {log.fault}", session.stderr)
