"""Examine this environment: what is installed, what the plugin corrects in it, and what you should know or repair."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

SUMMARY = "examine this environment: versions, runtimes, corrections, and what to repair"

_KINDS = {
    "corrections": "corrections of defects that would stop this network here",
    "guards": "guards of a training, active once a BiSeNetV1 or a BiSeNetV1Loss is built",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(args: Namespace) -> int:
    from bisenetv1_plugin.environment import examine

    report = examine()
    print(json.dumps(report, indent=1) if args.json else _text(report))
    return 1 if report["faults"] else 0


def _text(report: dict[str, Any]) -> str:
    lines = ["versions"]
    lines += [f"  {name:<18}{version}" for name, version in report["versions"].items()]
    if report["paddleseg"]:
        lines += [f"  PaddleSeg is in {report['paddleseg']}; the device is {report['device']}"]
    lines += ["", "runtimes other than Paddle, and the devices that they find"]
    lines += [f"  {name:<18}{', '.join(devices)}" for name, devices in report["runtimes"].items()] or ["  none"]
    if report["components"]:
        lines += ["", "components", *(f"  {name:<27} {where}" for name, where in report["components"].items())]
    for kind, what in _KINDS.items():
        lines += ["", what] if report[kind] else []
        lines += [f"  {name:<20}{found['state']:<14}{found['defect']}" for name, found in report[kind].items()]
    lines += ["", "notes", *(f"  - {note}" for note in report["notes"])] if report["notes"] else []
    lines += ["", "problems", *(f"  - {fault}" for fault in report["faults"])] if report["faults"] else []
    return "\n".join(lines if report["faults"] else [*lines, "", "No problems found."])
