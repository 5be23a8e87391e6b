"""The model-zoo table of the README, from configs/metafile.yaml."""

_COLUMNS = "configuration", "backbone", "data", "crop", "images x iterations", "parameters", "GMACs", "published mIoU"
_MEASURED = "measured here"


def rows(folder):
    """The entries of the metafile.yaml in this folder (a Path), in its order: a dictionary each."""
    import yaml

    return yaml.safe_load((folder / "metafile.yaml").read_text(encoding="utf-8"))


def table(folder):
    """The table of that file in Markdown."""
    header = [*_COLUMNS, _MEASURED]
    lines = [header, ["---"] * len(header), *(_cells(row) for row in rows(folder))]
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
