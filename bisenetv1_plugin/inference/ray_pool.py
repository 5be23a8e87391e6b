"""Segment pictures on many machines: Ray Data distributes them, in portions, to actors.

Only text is sent: the paths of the pictures to the actors, and their notes back.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections import Counter
from contextlib import contextmanager, nullcontext
from typing import Any, Callable, Dict, Iterator

import cv2
import numpy as np

from bisenetv1_plugin import files, machine
from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.pyarrow_files import is_address
from bisenetv1_plugin.inference.sources import Pictures
from bisenetv1_plugin.libraries import needs_paddle, optional_library

Notes = Dict[str, Any]
Segment = Callable[[Pictures], Notes]

_MAX_PORTION = 32  # pictures: a portion is repeated when its actor dies
_MIN_PORTIONS = 8  # for each actor, so that all finish at about the same time
_MAX_ATTEMPTS = 2  # for a portion, and then for each of its pictures alone
_CONNECT_TIMEOUT = 10  # seconds
_OBJECT_STORE = 100 << 20  # bytes of Ray's object store on one machine


class Pool:
    """Ray actors on this machine or in a running cluster. Use it in a `with` block.

    Args:
        address: 'local' for this machine alone; 'auto' or `HOST:PORT` for a cluster.
        cpus: CPUs, and so threads, of each actor.
        gpus: GPUs of each actor.
        size: the number of actors; default: as many as fit.
        verbose: show the output of Ray and the actors.

    Attributes:
        size (int): the number of actors.

    Raises:
        InputError: Ray is not installed, does not answer at the address, or has no room for that many actors.
    """

    def __init__(self, address: str, cpus: int, gpus: int = 0, size: int | None = None, verbose: bool = False) -> None:
        self._cpus, self._gpus, self._verbose = cpus, gpus, verbose
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends usage statistics
        if not verbose:  # for messages of Ray's C++, which bypass Python
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        self._ray = optional_library("ray", "ray")
        self._data = optional_library("ray.data", "ray")
        self._start(address)
        try:
            room = self._room()
            self.size = size or room
            if not 0 < self.size <= room:
                each = f"--cpu_threads {cpus}" + " and a GPU" * gpus
                raise InputError(
                    f"Ray has room for {room} actors of {each}: give fewer --actors or --cpu_threads, or wait "
                    "until other jobs are done."
                )
        except BaseException:
            self._ray.shutdown()
            raise

    def _start(self, address: str) -> None:
        if address.startswith("ray://"):
            raise InputError(f"--ray {address}: run this on a machine of the cluster, and give HOST:PORT of one.")
        host, _, port = address.rpartition(":")
        if port.isdecimal():  # otherwise Ray would wait forever
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT).close()
            except (OSError, OverflowError) as error:
                raise InputError(
                    f"--ray {address}: nothing listens there ({brief(error)}): start a cluster with `ray start --head`."
                ) from error
        options: dict[str, Any] = {"log_to_driver": self._verbose}
        if not self._verbose:
            options["logging_level"] = logging.ERROR
            logging.getLogger("ray.data").setLevel(logging.ERROR)
        if address == "local":
            cores = machine.cores()
            options.update(num_cpus=cores, object_store_memory=_OBJECT_STORE, include_dashboard=False)
        try:
            with nullcontext() if self._verbose else _silence_stderr(), _safe_folder():
                self._ray.init(address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"--ray {address}: Ray did not start or did not answer ({brief(error)}). If the cluster requires a "
                "token, set RAY_AUTH_MODE=token."
            ) from error

    def _room(self) -> int:
        """How many actors fit now. An actor must fit on one node: 3 CPUs fit one actor of 2."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        free = self._ray.available_resources()
        wanted = {name: count for name, count in (("CPU", self._cpus), ("GPU", self._gpus)) if count}
        by_node = sum(min(int(node.get(name, 0) // count) for name, count in wanted.items()) for node in nodes)
        return min(by_node, *(int(free.get(name, 0) // count) for name, count in wanted.items()))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def segment(self, pictures: Pictures, make: Callable[[], Segment]) -> Iterator[Notes]:
        """Segment pictures and yield the notes of each portion, in order.

        If an actor dies, it is started again and its portion is repeated. A picture whose actor dies repeatedly is
        skipped.

        Args:
            pictures: the pictures; their `done` and `faults` are updated.
            make: called in every actor; returns a function that segments a portion and returns its notes, which must
                be JSON. `make` must be importable, because it is pickled by name.

        Raises:
            InputError: an actor cannot segment, or Ray fails.
        """
        errors = self._ray.exceptions.RayError
        try:
            for row in self._dataset(pictures, make).iter_rows():
                answer = json.loads(row["answer"])
                if answer["stop"]:
                    where = f" (on {answer['node']})" * (len(self._ray.nodes()) > 1)
                    raise InputError(f"{answer['stop']}{where}")
                pictures.done += answer["done"]
                pictures.faults += answer["faults"]
                yield answer["notes"]
        except errors as error:
            raise InputError(f"Ray gave up: {brief(error)}.") from error

    def _dataset(self, pictures: Pictures, make: Callable[[], Segment]) -> Any:
        context = self._data.DataContext.get_current()
        context.enable_progress_bars = self._verbose
        context.print_on_execution_start = self._verbose
        context.execution_options.preserve_order = True
        # JSON in ASCII, because a file name may not be valid UTF-8, which Arrow's strings must be.
        paths = pictures.paths_by_name().items()
        items = [{"picture": json.dumps((name, absolute_path(path)))} for name, path in paths]
        template = Pictures({}, pictures.read, absolute_path(pictures.folder))
        portion = max(1, min(_MAX_PORTION, len(items) // (self.size * _MIN_PORTIONS)))
        attempts = self._ray.remote(_Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        return self._data.from_items(items, override_num_blocks=-(-len(items) // portion)).map_batches(
            _Worker,
            fn_constructor_args=(make, template, attempts, self._cpus),
            compute=self._data.ActorPoolStrategy(size=self.size),
            batch_size=None,
            batch_format="numpy",
            num_cpus=self._cpus,
            num_gpus=self._gpus,
        )


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Redirect descriptor 2 to /dev/null: Ray's C++ reports there that its log level was changed."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _safe_folder() -> Iterator[None]:
    """Change to the folder of the standard library.

    Ray's processes import from the current folder first, which may contain somebody else's cv2.py.
    """
    before = _current_folder()
    os.chdir(os.path.dirname(os.__file__))
    try:
        yield
    finally:
        os.chdir(before)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise InputError("the current folder was removed: change to another one.") from error


def absolute_path(path: str) -> str:
    """An absolute path; an address is returned as it is.

    Raises:
        InputError: the current folder was removed.
    """
    return path if is_address(path) else os.path.join(_current_folder(), path)


class _Attempts:
    """Counts attempts, outside the actors because a dead actor cannot report them."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, what: str) -> int:
        self._begun[what] += 1
        return self._begun[what]

    def end(self, what: str) -> None:
        del self._begun[what]


class _Worker:
    """An actor that segments portions of the pictures."""

    def __init__(self, make: Callable[[], Segment], template: Pictures, attempts: Any, cpus: int) -> None:
        """`template` has no pictures, but the function that reads them."""
        self._make, self._template, self._attempts = make, template, attempts
        self._segment: Segment | None = None
        self._get = optional_library("ray", "ray").get
        cv2.setNumThreads(cpus)
        machine.use_amd_vectors()
        machine.reuse_memory()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        paths = dict(json.loads(item) for item in batch["picture"])
        answers: list[str] = []
        try:
            answers += self._answers(paths)
        except InputError as error:
            answers.append(_answer(stop=str(error)))
        except OSError as error:
            sentence = files.refusal(error)
            if sentence is None:
                raise
            answers.append(_answer(stop=sentence))
        return {"answer": answers}

    def _answers(self, paths: dict[str, str]) -> Iterator[str]:
        if self._begin("portion", next(iter(paths))):
            yield self._answer_of(paths)
            return
        for name, path in paths.items():
            if self._begin("picture", name):
                yield self._answer_of({name: path})
                self._get(self._attempts.end.remote(_key("picture", name)))
            else:
                fault = f"{name} was left out: the process that segmented it was killed repeatedly: it may need "
                yield _answer(done=1, faults=[f"{fault}more memory than there is."])

    def _begin(self, kind: str, name: str) -> bool:
        return self._get(self._attempts.begin.remote(_key(kind, name))) <= _MAX_ATTEMPTS

    def _answer_of(self, paths: dict[str, str]) -> str:
        if self._segment is None:
            with needs_paddle():
                self._segment = self._make()
        pictures = Pictures(paths, self._template.read, self._template.folder)
        notes = self._segment(pictures)
        return _answer(pictures.done, pictures.faults, notes)


def _key(kind: str, name: str) -> str:
    """A key in ASCII, see `Pool._dataset`."""
    return f"{kind} {name!a}"


def _answer(done: int = 0, faults: list[str] | None = None, notes: Notes | None = None, stop: str | None = None) -> str:
    node = socket.gethostname()
    return json.dumps({"done": done, "faults": faults or [], "notes": notes or {}, "stop": stop, "node": node})
