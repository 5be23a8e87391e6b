"""The ready configurations, and the model-zoo table from their metafile.yaml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import check_outputs, write

_COLUMNS = (
    *("configuration", "backbone", "data", "crop", "images x iterations", "parameters", "GMACs"),
    *("published mIoU", "measured here"),
)


def folder() -> Path:
    """The folder of the configurations: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def paths() -> list[Path]:
    """The files of all configurations, sorted by name."""
    return sorted(folder().glob("*.yml"))


def path_of(name: str) -> Path:
    """The path of a ready configuration.

    Raises:
        InputError: there is no configuration of this name.
    """
    path = folder() / f"{name[:-4] if name.endswith('.yml') else name}.yml"
    if not path.is_file():
        names = ", ".join(path.stem for path in paths())
        raise InputError(f"there is no configuration {name}; choose one of {names}.")
    return path


def copy(name: str, directory: str | os.PathLike[str]) -> Path:
    """Write a configuration and its `_base_` files into a folder, and return its new path.

    Raises:
        InputError: there is no such configuration, or another file exists at the new path.
    """
    sources = _with_bases(path_of(name))
    targets = [Path(directory) / os.path.relpath(source, folder()) for source in sources]
    copies = dict(zip(map(str, targets), sources))
    check_outputs(copies, is_ours=lambda path: Path(path).read_bytes() == copies[path].read_bytes())
    for source, target in reversed([*zip(sources, targets)]):  # bases first: a copy never lacks its base
        write(target, source.read_bytes())
    return targets[0]


def _with_bases(path: Path) -> list[Path]:
    import yaml  # not above: `bisenetv1 configs` works without any dependency

    bases = yaml.safe_load(path.read_text(encoding="utf-8")).get("_base_", [])
    found = [path]
    for base in [bases] if isinstance(bases, str) else bases:
        found += _with_bases((path.parent / base).resolve())
    return found


def rows() -> list[dict[str, Any]]:
    """The entries of metafile.yaml, in its order."""
    import yaml

    return yaml.safe_load((folder() / "metafile.yaml").read_text(encoding="utf-8"))


def table() -> str:
    """The table of metafile.yaml in Markdown."""
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_cells, rows())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    published = "-"
    if row.get("published") is not None:
        remarks = ", ".join(filter(None, [row.get("note"), row["source"]]))
        published = f"{row['published']:.2f} ({remarks})"
    measured = row.get("measured")
    return [
        f"`{row['config']}`",
        row["backbone"],
        row["data"],
        row["crop"],
        row["schedule"],
        f"{row['parameters'][0] / 1e6:.2f} M",
        f"{row['gmacs']:.2f}",
        published,
        "not measured" if measured is None else f"{measured:.2f}",
    ]
