"""The runtimes and precisions that can run an export on this machine, as choices for the page."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported_model import load_export
from bisenetv1_plugin.inference.remove_argmax import can_give_logits
from bisenetv1_plugin.inference.runtimes import select
from bisenetv1_plugin.inference.segmenter import Segmenter
from bisenetv1_plugin.inference.sliding_window import EXPORT_LOGITS, SlidingWindows

# In the order of the page's choices.
_PRECISIONS = ("fp32", "bf16", "int8")


class Segmenters:
    """A `Segmenter` for each runtime and precision, made at its first use.

    Args:
        exported: the folder of an export, or its deploy.yaml.
        device: 'cpu' or 'gpu'; default: both, if there is a GPU.
        cpu_threads: threads on the CPU.
        windows: a sliding window; default: whole pictures.

    Attributes:
        path (str): the deploy.yaml.
        names (list[str]): such as 'openvino fp32'; the first is the default.

    Raises:
        InputError: there is no export, or no runtime here can run it.
    """

    def __init__(
        self, exported: str, device: str | None, cpu_threads: int, windows: SlidingWindows | None = None
    ) -> None:
        self._export, self._cpu_threads, self._windows = load_export(exported), cpu_threads, windows
        self.path = self._export.path
        self._options: dict[str, dict[str, Any]] = {}
        self._untried: set[str] = set()
        self._faults: list[str] = []
        devices = [device] if device else ["gpu", "cpu"] if select.default_device() == "gpu" else ["cpu"]
        for where in devices:
            for backend in select.ORDER[where]:
                if where == "gpu" or backend != "paddle":
                    self._try(backend, where)
        # Paddle takes seconds and hundreds of megabytes to load, so it is imported only when a visitor chooses it.
        if "cpu" in devices and not self._options:
            self._try("paddle", "cpu")
        elif (
            "cpu" in devices
            and not self._export.quantized
            and self._takes_windows("paddle")
            and importlib.util.find_spec("paddle")
        ):
            self._untried.add("paddle fp32")
            self._options["paddle fp32"] = {"backend": "paddle", "device": "cpu", "precision": "fp32"}
        if not self._options:
            raise InputError(" ".join(self._faults))
        self._segmenters: dict[str, Segmenter] = {}
        self._lock = threading.Lock()
        self.names = sorted(self._options, key=lambda name: _PRECISIONS.index(self._options[name]["precision"]))

    def _takes_windows(self, backend: str) -> bool:
        return self._windows is None or can_give_logits(self._export, backend)

    def _try(self, backend: str, device: str) -> None:
        """Build the runtime once, and offer it only if it runs and gives correct results."""
        if not self._takes_windows(backend):
            self._faults.append(f"{backend}: {self._export.path} ends in argmax: {EXPORT_LOGITS}.")
            return
        for precision in _PRECISIONS if device == "cpu" else ("fp32",):
            try:
                name = select.choose_runtime(self._export, device, self._cpu_threads, precision, [backend]).name
            except InputError as error:
                self._faults.append(str(error))
            else:
                self._options[name] = {"backend": backend, "device": device, "precision": precision}

    def __getitem__(self, name: str) -> Segmenter:
        """The `Segmenter` of this name.

        Raises:
            InputError: the name is unknown, or the runtime cannot run this export.
        """
        if name not in self._options:
            raise InputError(f"there is no runtime {name!r} here; choose one of {', '.join(self.names)}.")
        with self._lock:
            if name in self._untried:
                select.choose_runtime(self._export, "cpu", self._cpu_threads, "fp32", ["paddle"])
                self._untried.remove(name)
            if name not in self._segmenters:
                options = dict(self._options[name])
                if self._windows:
                    options.update(crop_size=self._windows.crop_size, stride=self._windows.stride)
                self._segmenters[name] = Segmenter(self.path, cpu_threads=self._cpu_threads, **options)
            return self._segmenters[name]
