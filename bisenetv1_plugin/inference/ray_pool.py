"""Many machines: Ray Data gives the pictures out, a portion at a time, to actors that segment them.

Only text travels: the paths of the pictures to the actors, and what they note of them back.
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

_PORTION = 32  # pictures at most: what is done again when an actor is lost
_PORTIONS = 8  # for each actor at least, so that all end together
_TRIES = 2  # of a portion, and then of each of its pictures alone
_PATIENCE = 10  # seconds, until a cluster answers
_STORE = 100 << 20  # bytes of Ray's object store on one machine


class Pool:
    """Actors of Ray, for a `with` block: on this machine, or in a cluster that runs.

    Args:
        address: 'local' for this machine alone; 'auto' or `HOST:PORT` for a cluster.
        cpus: CPUs of each actor, for so many threads.
        gpus: GPUs of each.
        size: how many actors; default: as many as have room.
        verbose: show what Ray and the actors print.

    Attributes:
        size (int): how many actors there are.

    Raises:
        InputError: Ray is not installed, is not found at the address, or has no room for so many.
    """

    def __init__(self, address: str, cpus: int, gpus: int = 0, size: int | None = None, verbose: bool = False) -> None:
        self._cpus, self._gpus, self._verbose = cpus, gpus, verbose
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
        if not verbose:  # what its C++ prints past Python
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
                    "until the others are done."
                )
        except BaseException:
            self._ray.shutdown()
            raise

    def _start(self, address: str) -> None:
        if address.startswith("ray://"):
            raise InputError(f"--ray {address}: give the HOST:PORT of a node of the cluster, on a machine that is one.")
        host, _, port = address.rpartition(":")
        if port.isdecimal():  # Ray would wait for ever
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
            except (OSError, OverflowError) as error:
                raise InputError(
                    f"--ray {address}: nobody listens there ({brief(error)}): ray start --head."
                ) from error
        options: dict[str, Any] = {"log_to_driver": self._verbose}
        if not self._verbose:
            options["logging_level"] = logging.ERROR
            logging.getLogger("ray.data").setLevel(logging.ERROR)
        if address == "local":
            cores = machine.cores()
            options.update(num_cpus=cores, object_store_memory=_STORE, include_dashboard=False)
        try:
            with nullcontext() if self._verbose else _muted(), _away():
                self._ray.init(address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"--ray {address}: Ray does not start or is not there, or wants the token of the cluster with "
                f"RAY_AUTH_MODE=token ({brief(error)})."
            ) from error

    def _room(self) -> int:
        """How many actors have room now; a node that has 3 CPUs has room for one of 2."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        free = self._ray.available_resources()
        wanted = {name: count for name, count in (("CPU", self._cpus), ("GPU", self._gpus)) if count}
        here = sum(min(int(node.get(name, 0) // count) for name, count in wanted.items()) for node in nodes)
        return min(here, *(int(free.get(name, 0) // count) for name, count in wanted.items()))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def segment(self, pictures: Pictures, make: Callable[[], Segment]) -> Iterator[Notes]:
        """What is noted of the pictures, a portion at a time, in order.

        An actor that is lost is started again, and its portion with it. A picture whose actor is lost again and again
        is left out.

        Args:
            pictures: counts in `done` and `faults` what the actors have done.
            make: makes, in every actor, what segments a portion and gives its notes, which JSON can hold.
                Pickled as the name of its module.

        Raises:
            InputError: an actor cannot do it.
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
        # In ASCII, as all that travels: a name may be of any bytes, and Arrow's texts are UTF-8.
        paths = pictures.paths_by_name().items()
        items = [{"picture": json.dumps((name, absolute_path(path)))} for name, path in paths]
        none = Pictures({}, pictures.read, absolute_path(pictures.folder))
        portion = max(1, min(_PORTION, len(items) // (self.size * _PORTIONS)))
        attempts = self._ray.remote(_Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        return self._data.from_items(items, override_num_blocks=-(-len(items) // portion)).map_batches(
            _Worker,
            fn_constructor_args=(make, none, attempts, self._cpus),
            compute=self._data.ActorPoolStrategy(size=self.size),
            batch_size=None,
            batch_format="numpy",
            num_cpus=self._cpus,
            num_gpus=self._gpus,
        )


@contextmanager
def _muted() -> Iterator[None]:
    """The descriptor 2 leads nowhere: Ray's C++ says there that it was told to say less."""
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
def _away() -> Iterator[None]:
    """The current folder is that of Python's own modules.

    Ray has its processes import from the current folder before all others, where somebody else's cv2.py may lie.
    """
    before = os.getcwd()
    os.chdir(os.path.dirname(os.__file__))
    try:
        yield
    finally:
        os.chdir(before)


def absolute_path(path: str) -> str:
    """The path or address, from any current folder."""
    return path if is_address(path) else os.path.join(os.getcwd(), path)


class _Attempts:
    """Counts how often something was begun: an actor that is lost cannot tell."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, what: str) -> int:
        self._begun[what] += 1
        return self._begun[what]

    def end(self, what: str) -> None:
        del self._begun[what]


class _Worker:
    """An actor: what `make` gives, and its portions of the pictures."""

    def __init__(self, make: Callable[[], Segment], none: Pictures, attempts: Any, cpus: int) -> None:
        """`none` of the pictures, but with what reads them."""
        self._make, self._none, self._attempts = make, none, attempts
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
                fault = f"{name} was left out: the process that segmented it was killed, again and again: it may need "
                yield _answer(done=1, faults=[f"{fault}more memory than there is."])

    def _begin(self, kind: str, name: str) -> bool:
        return self._get(self._attempts.begin.remote(_key(kind, name))) <= _TRIES

    def _answer_of(self, paths: dict[str, str]) -> str:
        if self._segment is None:
            with needs_paddle():
                self._segment = self._make()
        pictures = Pictures(paths, self._none.read, self._none.folder)
        notes = self._segment(pictures)
        return _answer(pictures.done, pictures.faults, notes)


def _key(kind: str, name: str) -> str:
    """In ASCII, see `Pool`."""
    return f"{kind} {name!a}"


def _answer(done: int = 0, faults: list[str] | None = None, notes: Notes | None = None, stop: str | None = None) -> str:
    node = socket.gethostname()
    return json.dumps({"done": done, "faults": faults or [], "notes": notes or {}, "stop": stop, "node": node})
