"""The examination of `bisenetv1 doctor`: installed versions, active corrections, notes and problems."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

from bisenetv1_plugin import __version__, compat, gpu
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.libraries import GET_PADDLE, install_command, optional_library

_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
_PACKAGES = (
    *("paddlepaddle", "paddlepaddle-gpu", "paddleseg", "numpy", *_OPENCV, "protobuf", "pyyaml"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "paddle2onnx", "torch", "av"),
    *("gradio", "fastapi", "uvicorn"),
)
# The runtimes other than Paddle, each with a function that lists its devices.
_RUNTIMES = {
    "onnxruntime": lambda library: library.get_available_providers(),
    "openvino": lambda library: library.Core().available_devices,
}


def examine() -> dict[str, Any]:
    """Examine this environment.

    Returns:
        `versions` (package -> version), `runtimes` (runtime -> its devices), `broken_runtimes` (installed, but their
        import fails), `paddleseg` (its folder), `device`, `components` (YAML type -> its module), `corrections` and
        `guards` (name -> state and defect), `notes` (defects that no correction reaches, with the cure) and `faults`
        (problems to repair; empty in a healthy environment).
        Without Paddle and PaddleSeg, `paddleseg` and `device` are None, and the next three are empty.

    Raises:
        InputError: Paddle or PaddleSeg is installed and cannot be imported.
    """
    versions = _versions()
    runtimes, broken = _runtimes()
    faults = list(broken.values())
    # In a fresh process, as in PaddleSeg's own tools: modules imported before, such as zlib, would change the result.
    # `-c` searches the current folder first, which may have another paddleseg.py; setting `sys.path` prevents that.
    code = f"import sys; sys.path[:] = {sys.path!r}; import paddleseg, json; "
    code += "from bisenetv1_plugin import environment; print(json.dumps(environment.findings()))"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, errors="replace"
    )
    if done.returncode == 0:
        seen = json.loads(done.stdout.splitlines()[-1])
        kinds = ("bisenetv1-plugin", "PaddleSeg component")
        faults += [line for line in done.stderr.splitlines() if any(kind in line for kind in kinds)]
    else:
        what = (done.stderr.strip().splitlines() or ["no message"])[-1]
        missing = re.fullmatch(r"ModuleNotFoundError: No module named '(paddle|paddleseg)'", what)
        if not missing:
            raise InputError(
                f"`import paddleseg` fails in a fresh process (exit code {done.returncode}): {what}. Unset "
                "BISENETV1_PLUGIN and BISENETV1_PLUGIN_COMPAT if they are set; else install again in a fresh "
                "environment."
            )
        seen = _without_paddle(missing[1], versions, runtimes, bool(broken))
    opencv = [name for name in _OPENCV if name in versions]
    if len(opencv) > 1:
        seen["notes"].append(f"{' and '.join(opencv)} overwrite each other's files: uninstall all, then install one.")
    faults = seen.pop("faults") + faults
    return {"versions": versions, "runtimes": runtimes, "broken_runtimes": list(broken), **seen, "faults": faults}


def _without_paddle(
    missing: str, versions: dict[str, str], runtimes: dict[str, list[str]], has_broken: bool = False
) -> dict[str, Any]:
    """The `findings` of an environment without Paddle or PaddleSeg."""
    notes, faults = [], []
    if any(name in versions for name in ("paddlepaddle", "paddlepaddle-gpu", "paddleseg")):
        faults.append(f"{missing} is not installed, and training needs it: {GET_PADDLE}")
    elif runtimes:
        notes.append("Without Paddle and PaddleSeg, infer, app, serve and Segmenter run exported networks.")
    if not runtimes and not has_broken:
        faults.append(f"No runtime for exported networks is installed: {install_command('deploy')}.")
    return {
        "paddleseg": None,
        "device": None,
        "components": {},
        "corrections": {},
        "guards": {},
        "notes": notes,
        "faults": faults,
    }


def _runtimes() -> tuple[dict[str, list[str]], dict[str, str]]:
    """The devices of each runtime that can be imported, and a sentence for each that is installed but cannot."""
    found, broken = {}, {}
    for name, devices in _RUNTIMES.items():
        if importlib.util.find_spec(name) is None:
            continue
        try:
            found[name] = list(devices(optional_library(name)))
        except InputError as error:
            broken[name] = str(error)
    return found, broken


def findings() -> dict[str, Any]:
    """Examine this process; `examine` calls this in a fresh one."""
    import paddle
    import paddleseg

    entries, faults = _entries()
    components, missing = _components()
    return {
        "paddleseg": os.path.dirname(paddleseg.__file__),
        "device": paddle.device.get_device(),
        "components": components,
        "corrections": {name: entries[name] for name in compat.CORRECTIONS},
        "guards": {name: entries[name] for name in compat.GUARDS},
        "notes": _notes(paddle),
        "faults": missing + faults,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "bisenetv1-plugin": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _components() -> tuple[dict[str, str], list[str]]:
    """The module of each component of this distribution, by its YAML `type`, and a list of faults."""
    from bisenetv1_plugin import plugin

    components, registries = {}, plugin.registries()
    for entry_point in importlib.metadata.distribution("bisenetv1-plugin").entry_points:
        registry = registries.get(entry_point.group)
        if registry is not None:
            component = registry.components_dict.get(entry_point.name)
            components[entry_point.name] = component.__module__ if component else "not registered"
    missing = [name for name, where in components.items() if where == "not registered"]
    if not missing:
        return components, []
    if os.environ.get("BISENETV1_PLUGIN") == "0":
        cure = "unset BISENETV1_PLUGIN"
    elif not compat.STATES:
        cure = "the start-up hook did not run; install the package again, or use `python -m bisenetv1_plugin run`"
    else:
        cure = "see the warnings below"
    return components, [f"PaddleSeg does not know {', '.join(missing)}: {cure}."]


def _entries() -> tuple[dict[str, dict[str, str]], list[str]]:
    """The state and the defect of each correction and guard, and a list of faults."""
    compat.apply(compat.WITH_THE_NETWORK)
    entries, faults = {}, []
    for name in compat.ENTRIES:
        entry, state = compat.entry(name), compat.STATES.get(name, "not reached")
        if state == "active" and compat.ENTRIES[name] == compat.WITH_THE_NETWORK:
            state = "waiting"  # its state in a process that builds no network
        entries[name] = {"state": state, "defect": entry.DEFECT}
        who = f"{entry.DEFECT} The {compat.kind(name)} {name}"
        if state == "failed":
            faults.append(f"{who} failed: see its warning below.")
        elif state in ("switched off", "not reached") and entry.needed():
            faults.append(f"{who} is {state}: {_cure(state)}.")
    return entries, faults + [_unknown(switch) for switch in compat.unknown_switches()]


def _unknown(switch: str) -> str:
    return (
        f"BISENETV1_PLUGIN_COMPAT has {switch!r}, which switches nothing off: give 0, -guards, -corrections, or - and "
        "a name from the lists here; several with commas."
    )


def _cure(state: str) -> str:
    if state == "not reached":
        return "let the plugin's hook run"
    return "unset BISENETV1_PLUGIN" + "_COMPAT" * (os.environ.get("BISENETV1_PLUGIN") != "0")


def _notes(paddle: ModuleType) -> list[str]:
    """Defects of this environment that no correction can reach."""
    notes = [
        "`type: BiseNetV1`, with a small s, is PaddleSeg's own network: a misspelled name builds it without a warning. "
        "This plugin's network is `BiSeNetV1`."
    ]
    if not paddle.framework.use_pir_api():
        notes.append(
            "Paddle Inference 2.6 on the CPU computes convolution, BatchNorm, ReLU, sigmoid in a row wrongly (oneDNN): "
            "an exported BiseNetV1 of PaddleSeg gives wrong masks there. Use BiSeNetV1 with variant: paddleseg."
        )
    elif compat.entry("onednn_resize").needed():
        notes.append(
            "Where an exported model runs without this plugin (another machine, C++), Paddle Inference 3 on the CPU "
            "resizes wrongly or raises while oneDNN is on, which is the default: call config.disable_mkldnn(), or "
            "config.delete_pass('onednn_placement_pass') and keep most of its speed."
        )
    sentence = gpu.obstacle(paddle)
    if sentence:
        notes.append(f"{sentence} The CPU is used instead.")
    if not gpu.can_run(paddle):
        notes.append(
            "On the CPU, train with SGD: after the first step of Paddle's Adam, everything is several times slower."
        )
    return notes
