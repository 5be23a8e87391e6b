"""List the ready configurations, or copy one into a folder together with its base files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from bisenetv1_plugin import zoo

SUMMARY = "list or copy the ready configurations"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--copy", nargs=2, metavar=("NAME", "DIR"), help="copy one into a folder")
    parser.add_argument("--table", action="store_true", help="print the model-zoo table, in Markdown")


def run(args: Namespace) -> None:
    if args.copy:
        print(f"Copied to {zoo.copy(*args.copy)}")
    elif args.table:
        print(zoo.table())
    else:
        for path in zoo.paths():
            first_line = path.read_text(encoding="utf-8").splitlines()[0]
            print(f"{path.stem}\n    {first_line.lstrip('# ')}")
