"""The runtimes and precisions that an export and this machine can run, for the page to choose among."""

import threading

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported import Export
from bisenetv1_plugin.inference.runtimes import select
from bisenetv1_plugin.inference.segmenter import Segmenter

# What is not exact comes after all that is.
_PRECISIONS = ("fp32", "bf16", "int8")


class Segmenters:
    """A `Segmenter` for each of them, made when it is first asked for.

    Args:
        exported (str): the folder of an export, or its deploy.yaml.
        device (str, optional): 'cpu' or 'gpu'; default: both, if there is a GPU.
        cpu_threads (int): threads on the CPU.

    Attributes:
        names (list[str]): such as 'openvino fp32'; the first is the default.

    Raises:
        InputError: there is no export, or nothing here can run it.
    """

    def __init__(self, exported, device, cpu_threads):
        export = Export(exported)
        devices = [device] if device else {"gpu": ("gpu", "cpu"), "cpu": ("cpu",)}[select.default_device()]
        self._options, faults = {}, []
        for where in devices:
            for precision in _PRECISIONS if where == "cpu" else ("fp32",):
                for backend in select.ORDER if where == "cpu" else ("paddle",):
                    try:  # built once, and let go: what is wrong or cannot run is not offered
                        name = select.choose(export, where, cpu_threads, precision, [backend]).name
                    except InputError as error:
                        faults.append(str(error))
                        continue
                    options = {"backend": backend, "device": where, "precision": precision}
                    self._options[name] = {**options, "cpu_threads": cpu_threads}
        if not self._options:
            raise InputError(" ".join(faults))
        self._exported = exported
        self._made = {}
        self._lock = threading.Lock()
        self.names = list(self._options)

    def __getitem__(self, name):
        """The `Segmenter` of that name.

        Raises:
            InputError: none has it.
        """
        if name not in self._options:
            raise InputError(f"there is no {name!r} here; there are {', '.join(self.names)}.")
        with self._lock:
            if name not in self._made:
                self._made[name] = Segmenter(self._exported, **self._options[name])
            return self._made[name]
