"""What a command shows, and what goes into its log instead. Only the command line does this; an import changes nothing.

Hidden are PaddleSeg's lines of information, the warnings of other packages, and what others print in `quiet` blocks.
Shown are errors, PaddleSeg's warnings, and all that this package has to say.

C++ writes to the descriptors 1 and 2 past Python, and both stay where they are: Paddle says why it crashed on the one,
C++ itself on the other, and nobody could bring that back from a file. So glog is told by its environment variable to
leave out what is below an error (such lines are in no log), and three lines of paddle2onnx are shown.
"""

import io
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from bisenetv1_plugin import files
from bisenetv1_plugin.cli.log import Log
from bisenetv1_plugin.errors import InputError, line
from bisenetv1_plugin.libraries import needs_paddle

# The commands that import Paddle.
COMMANDS = (
    *("demo", "train", "val", "predict", "export", "quantize", "infer", "verify"),
    *("benchmark", "convert", "data", "app"),
)

_PACKAGE = Path(__file__).resolve().parents[1]
# Whose lines of information are for the user
_SPEAKERS = {_PACKAGE / "training" / "checkpoints.py", _PACKAGE / "training" / "train.py", _PACKAGE / "weights.py"}
_WARNINGS = 10  # of PaddleSeg, that are shown: it has one that comes for every tensor
# Those that nobody can act upon: the values that PaddleSeg fills in are the right ones, and the threads its own choice.
_IDLE = ("We suggest you manually set", "The number of threads used by OpenCV")
_GLOG, _ERRORS = "GLOG_minloglevel", "2"


class _Session:
    """One command: its log, and the user's streams, whatever `sys` has meanwhile."""

    def __init__(self, log):
        self.log = log
        self.stdout, self.stderr = sys.stdout, sys.stderr
        self.said, self.warnings = set(), 0
        self.undo, self.is_over = [], False


_session = None  # None: nothing is hidden


def add_argument(parser):
    parser.add_argument("--verbose", action="store_true", help="print all that Paddle and PaddleSeg say; then no log")


def is_first():
    """Whether this is the process that talks, of a training on several devices."""
    return os.environ.get("PADDLE_TRAINER_ID", "0") == "0"


def is_quiet():
    """Whether anything is hidden: not with --verbose, nor in the other processes, whose output goes into files."""
    return _session is not None


@contextmanager
def session(args):
    """A command from its beginning to its end."""
    global _session
    if args.command not in COMMANDS or args.verbose or not is_first():
        yield
        return
    folder = getattr(args, "save_dir", None)
    log = Log(Path(folder, f"{args.command}.log") if folder else None)
    outer, _session = _session, _Session(log)
    try:
        _exchange(_session)
        yield
    except BaseException as error:
        _end(_session, error)
        raise
    else:
        _end(_session, None)
    finally:
        for undo in reversed(_session.undo):
            undo()
        _session.is_over = True
        _session = outer


def load_paddle():
    """Import Paddle and PaddleSeg without their greetings; not before what they read from the environment is there.

    Raises:
        InputError: one of them is not installed.
    """
    with quiet(), needs_paddle():
        import paddleseg.core  # noqa: F401
        from paddleseg.utils import logger
    if _session is not None:
        _take_over(_session, logger)


def log_at_once():
    """From now on, what is said is in the log at once: the work takes long, and may be killed."""
    if _session is not None:
        _session.log.live = True


@contextmanager
def quiet():
    """A block in which nobody in Python is heard but `say`, `warn` and bars."""
    if _session is None:
        yield
        return
    hidden = _Hidden(_session)
    with redirect_stdout(hidden), redirect_stderr(hidden):
        yield


def say(text=""):
    """A line for the user, past every bar; in a training on several devices, from the first process alone."""
    if is_first():
        _write(text, _session.stdout if _session else sys.stdout)
    if _session is not None:
        _session.log.add(f"{text}\n")


def warn(sentence):
    """What the user should mind; the command goes on."""
    _write(f"bisenetv1: {line(str(sentence))}", stderr())
    if _session is not None:
        _session.log.add(f"bisenetv1: {sentence}\n")


def stderr():
    """The user's."""
    return _session.stderr if _session else sys.stderr


def _write(text, file):
    """A line, and every bar of the terminal after it."""
    from tqdm import tqdm

    stdout = _session.stdout if _session else sys.stdout
    with redirect_stdout(stdout), redirect_stderr(stderr()):  # by which tqdm knows what shares a terminal
        tqdm.write(text, file=file)
    file.flush()


def _end(session, error):
    """The log gets the end as well, and the user hears where it is."""
    log = session.log
    said = log.held
    refused = isinstance(error, InputError) or (isinstance(error, OSError) and files.refusal(error) is not None)
    if refused:
        log.add(f"bisenetv1: {error}\n")
    elif error is not None:
        log.add("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    log.close(keep=not refused)
    if log.is_written:
        _write(f"The log is in {log.path}", session.stderr if error else session.stdout)
    elif refused or isinstance(error, KeyboardInterrupt):  # one sentence is enough
        pass
    elif error is not None:  # nobody else has it; the traceback comes from Python
        session.stderr.write(said)
    elif log.fault:
        _write(f"bisenetv1: there is no whole log. {log.fault}", session.stderr)


class _Hidden(io.TextIOBase):
    """A stream whose text goes into the log. Some keep it for good, as a handler of `logging` does."""

    encoding = "utf-8"

    def __init__(self, session):
        self._session = session

    def writable(self):
        return True

    def write(self, text):
        if self._session.is_over:
            return sys.stderr.write(text)
        self._session.log.add(text)
        return len(text)


def _exchange(session):
    """Python's warnings, the errors of threads, and glog's level, which Paddle reads when it is loaded."""

    def showwarning(message, category, filename, lineno, file=None, line=None):
        if _PACKAGE in Path(filename).parents:
            warn(message)
        else:
            session.log.add(warnings.formatwarning(message, category, filename, lineno, line))

    def excepthook(args, original=threading.excepthook):
        # A full disk is told in a sentence by who waits for the thread.
        refused = isinstance(args.exc_value, OSError) and files.refusal(args.exc_value) is not None
        with redirect_stderr(_Hidden(session) if refused else session.stderr):
            original(args)

    _set(session, warnings, "showwarning", showwarning)
    _set(session, threading, "excepthook", excepthook)
    if not {_GLOG, "GLOG_v"} & set(os.environ):
        os.environ[_GLOG] = _ERRORS
        session.undo.append(lambda: os.environ.pop(_GLOG, None))


def _take_over(session, logger):
    """PaddleSeg's logger: functions of a module, in its later versions those of `logging`."""
    if hasattr(logger, "logger_initialized"):
        handler = _Handler(session)
        for name in logger.logger_initialized:
            _set(session, logging.getLogger(name), "handlers", [handler])
    else:

        def log(level=2, message=""):
            _told(session, level < 2, logger.levels[level], str(message), sys._getframe(2).f_code.co_filename)

        _set(session, logger, "log", log)


class _Handler(logging.Handler):
    def __init__(self, session):
        super().__init__()
        self._session = session

    def emit(self, record):
        minds = record.levelno >= logging.WARNING
        _told(self._session, minds, record.levelname, record.getMessage(), record.pathname)


def _told(session, minds, level, message, path):
    """One of PaddleSeg's log lines, with the file whose code asked for it; `minds`: a warning or an error."""
    session.log.add(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{level}]\t{message}\n")
    if minds and not any(words in message for words in _IDLE):
        ours = _PACKAGE in Path(path).parents
        session.warnings += not ours
        if ours or session.warnings <= _WARNINGS:
            _write(f"bisenetv1: {message}", session.stderr)
        elif session.warnings == _WARNINGS + 1:
            where = f"are in {session.log.path}" if session.log.path else "are shown with --verbose"
            _write(f"bisenetv1: there are more warnings; all of them {where}.", session.stderr)
    elif Path(path) in _SPEAKERS and message not in session.said:
        session.said.add(message)
        _write(message, session.stdout)


def _set(session, owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    session.undo.append(lambda: setattr(owner, name, before))
