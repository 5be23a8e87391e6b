"""Examine this environment: what is installed, what the plugin corrects in it, and what you should know or repair."""

from __future__ import annotations

import json
import textwrap
from argparse import ArgumentParser, Namespace
from typing import Any, Iterable

from bisenetv1_plugin.libraries import GET_PADDLE, install_command

SUMMARY = "examine this environment: versions, runtimes, corrections, and what to repair"

_WIDTH = 100


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, with the defect behind each correction")


def run(args: Namespace) -> int:
    from bisenetv1_plugin.environment import examine

    report = examine()
    print(json.dumps(report, indent=1) if args.json else _text(report))
    return 1 if report["faults"] else 0


def _text(report: dict[str, Any]) -> str:
    """The verdict, problems and notes, then the details. The defect behind each correction is in --json."""
    lines = [_training(report), _running(report), "Problems: see below." if report["faults"] else "No problems found."]
    for title, sentences in (("problems", report["faults"]), ("notes", report["notes"])):
        lines += ["", title, *(f"  - {sentence}" for sentence in sentences)] if sentences else []
    lines += ["", "versions"]
    lines += [f"  {name:<18}{version}" for name, version in report["versions"].items()]
    if report["paddleseg"]:
        lines += [f"  PaddleSeg is in {report['paddleseg']}"]
    lines += ["", "runtimes other than Paddle, and the devices that they find"]
    lines += [f"  {name:<18}{', '.join(devices)}" for name, devices in report["runtimes"].items()] or ["  none"]
    if report["components"]:
        components = [
            name + f" ({where})" * (where == "not registered") for name, where in report["components"].items()
        ]
        lines += ["", "components for PaddleSeg's configurations", *_wrap("", components)]
        for kind in ("corrections", "guards"):
            lines += ["", f"{kind}, see docs/corrections.md"]
            states: dict[str, list[str]] = {}
            for name, found in report[kind].items():
                states.setdefault(found["state"], []).append(name)
            for state, names in states.items():
                lines += _wrap(f"{state}: ", names)
    return "\n".join(lines)


def _training(report: dict[str, Any]) -> str:
    if not report["paddleseg"]:
        return f"Training and export: not installed. {GET_PADDLE}"
    others = len(report["faults"]) - len(report["broken_runtimes"])
    return f"Training and export: {'problems' if others else 'ready'}, on {report['device']}."


def _running(report: dict[str, Any]) -> str:
    runtimes = [*report["runtimes"], *["Paddle"] * bool(report["paddleseg"])]
    if report["broken_runtimes"]:
        rest = f"; ready, with {', '.join(runtimes)}" if runtimes else ""
        return f"Running exports: problems with {', '.join(report['broken_runtimes'])}{rest}."
    if not report["runtimes"]:
        more = f"{install_command('deploy')}."
        if runtimes:
            return f"Running exports: ready, with Paddle alone. For ONNX Runtime, OpenVINO and videos: {more}"
        return f"Running exports: not installed. {more}"
    return f"Running exports: ready, with {', '.join(runtimes)}."


def _wrap(start: str, names: Iterable[str]) -> list[str]:
    text = start + ", ".join(names)
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
