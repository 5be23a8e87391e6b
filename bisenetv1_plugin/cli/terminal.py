"""The output of a command on the screen and in its log. Importing this module changes nothing.

Everything goes into the log. The screen shows the messages of this package and the warnings of PaddleSeg. It does not
show PaddleSeg's other messages, the warnings of other packages, or what is printed in `quiet` blocks.

C++ writes directly to the file descriptors 1 and 2. They are not redirected, because after a crash in C++ nobody could
print its last message from a file. Instead, an environment variable makes glog omit everything below an error, also
from the log. Only the output of paddle2onnx is redirected, see `export.onnx_model`.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Iterator, TextIO

from bisenetv1_plugin import files, gpu
from bisenetv1_plugin.cli.log import Log
from bisenetv1_plugin.errors import InputError, line, lines
from bisenetv1_plugin.libraries import needs_paddle, restore_signal_handlers

_OURS, _COMMANDS, _CORRECTIONS = "bisenetv1_plugin", "bisenetv1_plugin.cli", "bisenetv1_plugin.compat"  # loggers
_PADDLESEG, _OTHERS = "paddleseg", "py.warnings"
_WARNINGS = 10  # most warnings of PaddleSeg on the screen: one of them comes for every tensor
# Warnings that are hidden: the values that PaddleSeg fills in are right, and it sets OpenCV's threads itself.
_USELESS = ("We suggest you manually set", "The number of threads used by OpenCV")
_GLOG, _ERRORS = "GLOG_minloglevel", "2"
_REPEATED = 10  # seconds in which SIGTERMs count as one: `timeout`, for one, sends several


class _Session(ExitStack):
    """One command: its log and the user's streams. Its end restores everything that it has replaced."""

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
        """Take over a logger and its children, so that no other handler gets their records."""
        logger = logging.getLogger(name)
        self.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.DEBUG)
        self.replace(logger, "propagate", False)
        self.replace(logger, "handlers", self._handlers)

    def write(self, text: str, file: TextIO) -> None:
        """Print a line above the progress bars."""
        from tqdm import tqdm

        with redirect_stdout(self.stdout), redirect_stderr(self.stderr):  # tqdm compares its bars' streams with these
            tqdm.write(text, file=file)
        file.flush()


_session: _Session | None = None  # None: nothing is hidden


def add_argument(parser: ArgumentParser) -> None:
    log = ", and write no log" if "--save_dir" in parser.format_usage() else ""  # as `session` does
    parser.add_argument("--verbose", action="store_true", help=f"print all output of Paddle and PaddleSeg{log}")


def is_first() -> bool:
    """Whether this process prints: in a training on several devices, only the first one does."""
    return os.environ.get("PADDLE_TRAINER_ID", "0") == "0"


def is_quiet() -> bool:
    """Whether output is hidden: not with --verbose, and not in processes other than the first."""
    return _session is not None


@contextmanager
def session(args: Namespace) -> Iterator[None]:
    """Hide output during a command and write its log; not for commands without the flag --verbose."""
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
    """Import Paddle and PaddleSeg without their messages. Set the environment variables that they read before.

    Args:
        device: the value of --device, or None if it was not given.

    Returns:
        The device to run on, see `check_device`.

    Raises:
        InputError: one of them is not installed, or `device` is 'gpu' and this Paddle cannot run on one.
    """
    with quiet(), needs_paddle():
        import paddleseg.core  # noqa: F401
        from paddleseg.utils import logger
    restore_signal_handlers()
    if _session is not None:
        _capture_paddleseg(logger, _session)
    return check_device(device)


def check_device(device: str | None) -> str:
    """The device to run on. If `device` is None and a Paddle for GPUs cannot use one, warn and choose the CPU.

    Raises:
        InputError: `device` is 'gpu', and this Paddle cannot run on one.
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
    warn(f"{sentence} The CPU is used instead.")
    return "cpu"


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived, in a block of `until_sigterm`."""


@contextmanager
def until_sigterm() -> Iterator[None]:
    """A block that SIGTERM ends as Ctrl-C does, with `Terminated`.

    Repeated SIGTERMs are ignored for some seconds, also after the block, while the process stops its workers. In the
    block, a later one raises `Terminated` again: the first may have been lost in a `__del__`, or the end may hang.
    """
    first, ended = -math.inf, False

    def stop(*_: object) -> None:
        nonlocal first
        if time.monotonic() - first < _REPEATED:
            return
        if ended:
            restore()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        first = time.monotonic()
        if hasattr(signal, "SIGCHLD"):  # Paddle's handler raises when its workers have got SIGTERM, too
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise Terminated

    def restore() -> None:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: see `restore_signal_handlers`

    if threading.current_thread() is not threading.main_thread():  # Python sets handlers only there
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        ended = True
        if time.monotonic() - first >= _REPEATED:
            restore()


def log_at_once() -> None:
    """From now on, write the log at once, because the work takes long and may be killed."""
    if _session is not None:
        _session.log.live = True


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which Python prints into the log; only loggers, `say`, `warn` and bars reach the screen."""
    if _session is None:
        yield
        return
    with redirect_stdout(_session.log), redirect_stderr(_session.log):
        yield


def say(text: str) -> None:
    """Print a line above the progress bars; in a training on several devices, only from the first process."""
    text = lines(text)
    if _session is not None:
        logging.getLogger(_COMMANDS).info(text)
    elif is_first():
        print(text, flush=True)


def warn(sentence: object) -> None:
    """Print a warning on stderr."""
    if _session is not None:
        logging.getLogger(_COMMANDS).warning(sentence)
    else:
        print(f"bisenetv1: {line(str(sentence))}", file=sys.stderr)


def stderr() -> TextIO:
    """The user's stderr, also in a `quiet` block."""
    return _session.stderr if _session else sys.stderr


class _ScreenHandler(logging.Handler):
    """Prints the log records that are meant for the user."""

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
            # A network may be built twice: print its messages once. The messages of a correction need no action.
            if message in self._messages or (name.startswith(_CORRECTIONS) and not is_warning):
                return
            self._messages.add(message)
        if is_warning:
            self._session.write(f"bisenetv1: {line(message)}", self._session.stderr)
        else:
            self._session.write(message, self._session.stdout)


def _capture_loggers(session: _Session) -> None:
    """Capture this package's loggers, Python's warnings and the errors of threads, and silence glog.

    It must be called before Paddle is imported, which reads glog's variable once.
    """

    def excepthook(args: Any, original: Any = threading.excepthook) -> None:
        # The code that waits for the thread reports a full disk in a sentence.
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
    """Capture PaddleSeg's logger: a module with functions, in later versions loggers of `logging`."""
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
    """Write the error into the log, close it, and print its path."""
    log, text, refused = session.log, session.log.held, _is_refusal(error)
    if refused:
        log.write(f"bisenetv1: {error}\n")
    elif error is not None:
        log.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    log.finish(keep=not refused)
    if log.is_written:
        session.write(f"The log is in {log.path}", session.stderr if error else session.stdout)
    elif refused or isinstance(error, KeyboardInterrupt):  # `main` prints one sentence
        pass
    elif error is not None:  # there is no log file; Python prints the traceback
        session.stderr.write(text)
    elif log.fault:
        session.write(f"bisenetv1: the log is incomplete. {log.fault}", session.stderr)
