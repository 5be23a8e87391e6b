"""List the ready configurations, or copy one, with the files it is based on, into a folder."""

import os
import shutil
from pathlib import Path

from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "list or copy the ready configurations"


def add_arguments(parser):
    parser.add_argument("--copy", nargs=2, metavar=("NAME", "DIR"), help="copy one into a folder")
    parser.add_argument("--table", action="store_true", help="print the model-zoo table, in Markdown")


def run(args):
    if args.copy:
        print(f"Copied to {copy(*args.copy)}")
        return
    if args.table:
        from bisenetv1_plugin.tools import zoo

        print(zoo.table(folder()))
        return
    for path in sorted(folder().glob("*.yml")):
        first_line = path.read_text(encoding="utf-8").splitlines()[0]
        print(f"{path.stem}\n    {first_line.lstrip('# ')}")


def folder():
    """Where the configurations are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def path_of(name):
    """The path of a ready configuration.

    Raises:
        UserError: there is none of that name.
    """
    path = folder() / f"{name[:-4] if name.endswith('.yml') else name}.yml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder().glob("*.yml")))
        raise UserError(f"there is no configuration {name}; there are {names}.")
    return path


def copy(name, directory):
    """Write a configuration and its `_base_` files into a folder; returns its new path. Existing files are refused.

    Raises:
        UserError: there is no such configuration, or a file is in the way.
    """
    sources = _with_bases(path_of(name))
    targets = [Path(directory) / os.path.relpath(source, folder()) for source in sources]
    for target in targets:
        if target.exists() and target.read_bytes() != sources[targets.index(target)].read_bytes():
            raise UserError(f"{target} exists and differs: choose another folder, or remove it.")
    for source, target in zip(sources, targets):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return targets[0]


def _with_bases(path):
    import yaml

    bases = yaml.safe_load(path.read_text(encoding="utf-8")).get("_base_", [])
    found = [path]
    for base in [bases] if isinstance(bases, str) else bases:
        found += _with_bases((path.parent / base).resolve())
    return found
