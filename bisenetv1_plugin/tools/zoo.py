"""The model-zoo table of the README, from configs/metafile.yaml."""

from bisenetv1_plugin.tools import configs

_COLUMNS = "configuration", "backbone", "data", "crop", "images x iterations", "parameters", "GMACs", "published mIoU"
_MEASURED = "measured here"


def rows():
    """The entries of metafile.yaml, in its order: one dictionary for each published recipe."""
    import yaml

    return yaml.safe_load((configs.folder() / "metafile.yaml").read_text(encoding="utf-8"))


def table():
    """The table in Markdown."""
    header = [*_COLUMNS, _MEASURED]
    lines = [header, ["---"] * len(header), *(_cells(row) for row in rows())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row):
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
