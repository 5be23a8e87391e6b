"""The model zoo: what metafile.yaml says of every configuration is so, and the table says what metafile.yaml does."""

import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import Config, SegBuilder

from bisenetv1_plugin import zoo

ROWS = {row["config"]: row for row in zoo.rows()}
DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_recipe_has_its_row():
    assert sorted(ROWS) == sorted(p.stem for p in zoo.folder().glob("*.yml") if "demo" not in p.stem)
    assert len(zoo.rows()) == len(ROWS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.very_slow] if ROWS[name]["gmacs"] > 40 else []) for name in sorted(ROWS)],
)
@pytest.mark.slow
def test_row(name):
    row, cfg = ROWS[name], Config(str(zoo.path_of(name)))
    cfg.dic["model"]["backbone"].pop("pretrained", None)
    network = SegBuilder(cfg).model
    sizes = {name: int(p.size) for name, p in network.named_parameters() if not p.stop_gradient}
    training = sum(sizes.values())
    auxiliary = sum(size for name, size in sizes.items() if name.startswith(("heads.0.", "heads.1.")))
    assert row["parameters"] == [training - auxiliary, training]
    assert row["gmacs"] == pytest.approx(multiply_adds(network) / 1e9, abs=0.005)

    crop = next(t["crop_size"] for t in cfg.dic["train_dataset"]["transforms"] if "crop_size" in t)
    assert row["crop"] == f"{crop[0]}x{crop[1]}"
    images, iterations = re.fullmatch(r"(\d+)(?: a card)? x (\d+k?)", row["schedule"]).groups()
    assert int(images) % cfg.batch_size == 0
    assert int(iterations.replace("k", "000")) == cfg.iters


def multiply_adds(network):
    counts = []
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.Conv2D):
            layer.register_forward_post_hook(
                lambda conv, _, out: counts.append(int(np.prod(out.shape[1:]) * np.prod(conv.weight.shape[1:])))
            )
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, 3, 360, 640]))
    return sum(counts)


def test_the_authors_counts():
    """From the definitions of TorchSeg: parameters at inference and in training, multiply-adds at 640x360."""
    published = {
        "bisenetv1_cityscapes_1024x1024_80k": ([12894163, 13494777], 11.58),
        "bisenetv1_r101_cityscapes_1024x1024_80k": ([47638803, 48239417], 48.7),
        "bisenetv1_x39_cityscapes_1024x1024_140k": ([1541963, 1842289], 3.07),
    }
    for name, (parameters, gmacs) in published.items():
        assert ROWS[name]["parameters"] == parameters
        assert ROWS[name]["gmacs"] == pytest.approx(gmacs, abs=0.02)


def test_table():
    header, rule, *lines = zoo.table().splitlines()
    assert set(rule) == set("|- ") and len(lines) == len(ROWS)
    for line, row in zip(lines, zoo.rows()):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == header.count("|") - 1
        assert cells[0] == f"`{row['config']}`"
        assert float(cells[5].rstrip(" M")) == pytest.approx(row["parameters"][0] / 1e6, abs=0.006)
        assert cells[7].startswith("-" if row.get("published") is None else f"{row['published']:.2f} (")
        assert cells[8] == ("not measured" if row.get("measured") is None else f"{row['measured']:.2f}")


def test_the_page_has_this_table():
    text = (DOCS / "model_zoo.md").read_text(encoding="utf-8")
    assert zoo.table() in text, "docs/model_zoo.md: paste what `bisenetv1 configs --table` prints"
