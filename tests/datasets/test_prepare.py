"""Every public layout gives the same folder; every problem is reported, and nothing is left behind."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from bisenetv1_plugin.datasets.prepare import CAMVID_CLASSES, CAMVID_COLORS, camvid, prepare_camvid, prepare_cityscapes
from bisenetv1_plugin.datasets.prepare.dataset_files import raise_together

LABEL = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 255]], np.uint8)
SPLIT = {
    "train": ["0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_08640"],
    "val": ["0016E5_07959", "0016E5_08159"],
    "test": ["0001TP_008550", "Seq05VD_f00000"],
}


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return path


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def image(height=3, width=4):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def in_colors(label):
    colors = np.zeros(label.shape + (3,), np.uint8)
    for index, name in enumerate(CAMVID_CLASSES):
        colors[label == index] = CAMVID_COLORS[name][-1]
    return colors[..., ::-1]  # OpenCV writes BGR


def segnet(root, suffix="annot"):
    for split, stems in SPLIT.items():
        for stem in stems:
            write(root / split / f"{stem}.png", image())
            write(root / f"{split}{suffix}" / f"{stem}.png", np.where(LABEL == 255, 11, LABEL))
        paths = (f"/SegNet/CamVid/{split}/{s}.png /SegNet/CamVid/{split}annot/{s}.png\n" for s in stems)
        (root / f"{split}.txt").write_text("".join(paths))
    return root


def nested(root):
    for split, stems in SPLIT.items():
        for stem in stems:
            write(root / split / "images" / f"{stem}.jpg", image())
            write(root / split / "labels" / f"{stem}.png", LABEL)
    return root


def kaggle(root):
    for split, stems in SPLIT.items():
        for stem in stems:
            write(root / split / f"{stem}.png", image())
            write(root / f"{split}_labels" / f"{stem}_L.png", in_colors(LABEL))
    return root


def cambridge(root):
    for stem in sum(SPLIT.values(), []):
        write(root / "701_StillsRaw_full" / f"{stem}.png", image())
        write(root / "LabeledApproved_full" / f"{stem}_L.png", in_colors(LABEL))
    return root


@pytest.mark.parametrize("layout", [segnet, nested, kaggle, cambridge])
@pytest.mark.parametrize("below", ["", "CamVid"])
def test_camvid_layouts(tmp_path, layout, below):
    layout(tmp_path / "src" / below)
    told = []

    def progress(items, **about):
        told.append((len(items), about))
        return items

    prepared = prepare_camvid(tmp_path / "src", tmp_path / "dst", progress=progress)

    assert prepared == (tmp_path / "dst", {"train": 4, "val": 2, "test": 2}, CAMVID_CLASSES)
    assert told == [(8, {"desc": "prepare", "unit": "file"})]
    for split, stems in SPLIT.items():
        lines = [line.split(" ") for line in (prepared.root / f"{split}.txt").read_text().splitlines()]
        assert [Path(label).stem for _, label in lines] == stems
        for image_name, label_name in lines:
            label = read(prepared.root / label_name)
            assert label.dtype == np.uint8 and np.array_equal(label, LABEL)
            assert read(prepared.root / image_name).shape == (3, 4, 3)
    assert (prepared.root / "classes.txt").read_text().splitlines() == list(CAMVID_CLASSES)
    assert sorted(os.listdir(tmp_path)) == ["dst", "src"]


def test_camvid_colors():
    colors = sum(CAMVID_COLORS.values(), [])
    assert len(colors) == len(set(colors)) == 31 and (0, 0, 0) not in colors
    assert (camvid._color_table() != 255).sum() == 31


def test_camvid_split_by_list_files_of_names(tmp_path):
    src = tmp_path / "src"
    for stem in ("a", "b"):
        write(src / "images" / f"{stem}.png", image())
        write(src / "labels" / f"{stem}.png", LABEL)
    with pytest.raises(ValueError, match="a is not a frame .* put train.txt"):
        prepare_camvid(src, tmp_path / "dst")
    (src / "train.txt").write_text("b\n")
    (src / "val.txt").write_text("images/a.png\n\n")
    assert prepare_camvid(src, tmp_path / "dst").counts == {"train": 1, "val": 1}
    assert (tmp_path / "dst" / "val.txt").read_text() == "images/a.png labels/a.png\n"


def test_camvid_problems_are_reported_together(tmp_path):
    src = segnet(tmp_path / "src")
    (src / "train" / "0001TP_006690.png").unlink()
    (src / "trainannot" / "0001TP_008520.png").unlink()
    write(src / "trainannot" / "0006R0_f00930.png", LABEL[:2])
    write(src / "trainannot" / "0016E5_08640.png", np.full_like(LABEL, 42))
    damaged = src / "val" / "0016E5_07959.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    write(src / "valannot" / "0016E5_08159.png", image())
    with open(src / "test.txt", "a") as listing:
        listing.write("0016E5_08159\n")

    with pytest.raises(ValueError) as error:
        prepare_camvid(src, tmp_path / "dst")
    for part in (
        "image {}/train/0001TP_006690.png is missing",
        "label {}/trainannot/0001TP_008520.png is missing",
        "label {}/trainannot/0006R0_f00930.png is 4x2, its image 4x3",
        "label {}/trainannot/0016E5_08640.png has values 42, expected 0..10, 11 or 255",
        "image {}/val/0016E5_07959.png cannot be read",
        "label {}/valannot/0016E5_08159.png has colors that are not CamVid's",
        "0016E5_08159 is in val and in test",
    ):
        assert part.format(src) in str(error.value)
    assert os.listdir(tmp_path) == ["src"]


def test_long_messages_are_cut(tmp_path):
    with pytest.raises(ValueError, match=r"^all: f0; f1; .*f19; and 480 more\.$"):
        raise_together([f"f{i}" for i in range(500)], "all")


def test_unknown_source_and_full_destination(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no known layout of CamVid"):
        prepare_camvid(tmp_path, tmp_path / "dst")
    with pytest.raises(FileNotFoundError, match="no folder leftImg8bit/train: unpack"):
        prepare_cityscapes(tmp_path)

    src = segnet(tmp_path / "src")
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        prepare_camvid(src, tmp_path / "dst")
    assert os.listdir(tmp_path / "dst") == ["mine.txt"]

    (tmp_path / "empty").mkdir()
    assert prepare_camvid(src, tmp_path / "empty").counts["train"] == 4


def test_interruption_leaves_no_files(tmp_path):
    src = segnet(tmp_path / "src")

    def interrupt(items, **_):
        yield from items[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_camvid(src, tmp_path / "dst", progress=interrupt)
    assert os.listdir(tmp_path) == ["src"]


@pytest.mark.skipif("CAMVID_DIR" not in os.environ, reason="CAMVID_DIR names no CamVid")
def test_real_camvid(tmp_path):
    src = Path(os.environ["CAMVID_DIR"])
    prepared = prepare_camvid(src, tmp_path / "dst")
    assert (prepared.counts["train"], prepared.counts["val"]) == (367, 101)
    for split in ("train", "val"):
        lines = (prepared.root / f"{split}.txt").read_text().splitlines()
        stems = [Path(line.split(" ")[0]).stem for line in lines]
        assert set(camvid._official_split(stems)[split]) == set(stems)
    assert set(np.unique(read(prepared.root / lines[0].split(" ")[1]))) <= set(range(11)) | {255}


# Cityscapes

IDS = np.array([[0, 7, 8, 11], [33, 26, 34 - 1, 255]], np.uint8)
TRAIN_IDS = np.array([[255, 0, 1, 2], [18, 13, 18, 255]], np.uint8)


def cityscapes(root):
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "munster")):
        for frame in (19, 38):
            stem = f"{city}_000000_{frame:06d}"
            write(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", image(2, 4))
            write(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", IDS)
    return root


def train_ids(root):
    return sorted(str(path.relative_to(root)) for path in root.glob("gtFine/*/*/*_gtFine_labelTrainIds.png"))


@pytest.mark.parametrize("place", ["same", "other"])
def test_paddleseg_reads_cityscapes(tmp_path, place):
    from paddleseg.datasets import Cityscapes, Dataset

    src = cityscapes(tmp_path / "src")
    dst = None if place == "same" else tmp_path / "dst"
    prepared = prepare_cityscapes(src, dst)
    assert prepared.root == (dst or src) and prepared.counts == {"train": 4, "val": 2} and len(prepared.classes) == 19
    assert len(train_ids(prepared.root)) == 6
    assert len(train_ids(src)) == (6 if place == "same" else 0)
    assert np.array_equal(read(prepared.root / train_ids(prepared.root)[0]), TRAIN_IDS)

    root = str(prepared.root)
    own = Cityscapes([], root, mode="train")
    listed = Dataset("train", root, [], 19, train_path=f"{root}/train.txt")
    assert own.file_list == listed.file_list and len(own) == 4
    assert np.array_equal(own[0]["label"], TRAIN_IDS)
    assert not list(tmp_path.rglob(".*"))


def test_cityscapes_keeps_existing_train_ids(tmp_path):
    src = cityscapes(tmp_path / "src")
    prepare_cityscapes(src)
    for path in src.rglob("*_labelIds.png"):
        path.unlink()
    times = {path: (src / path).stat().st_mtime_ns for path in train_ids(src)}
    prepare_cityscapes(src)
    assert times == {path: (src / path).stat().st_mtime_ns for path in train_ids(src)}
    assert prepare_cityscapes(src, tmp_path / "dst").counts == {"train": 4, "val": 2}
    assert train_ids(tmp_path / "dst") == train_ids(src)


def test_cityscapes_missing_files_are_found_first(tmp_path):
    src = cityscapes(tmp_path / "src")
    (src / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png").unlink()
    (src / "leftImg8bit/val/munster/munster_000000_000038_leftImg8bit.png").unlink()
    for dst in (None, tmp_path / "dst"):
        with pytest.raises(ValueError) as error:
            prepare_cityscapes(src, dst)
        assert "aachen_000000_000019_leftImg8bit.png has no label" in str(error.value)
        assert "munster_000000_000038_gtFine_labelIds.png has no image" in str(error.value)
    assert train_ids(src) == [] and os.listdir(tmp_path) == ["src"] and not (src / "train.txt").exists()


def test_cityscapes_bad_labels_are_reported_together(tmp_path):
    src = cityscapes(tmp_path / "src")
    labels = sorted(src.rglob("*_labelIds.png"))
    write(labels[0], np.full_like(IDS, 42))
    write(labels[1], IDS[:1])
    labels[2].write_bytes(labels[2].read_bytes()[:-30])
    for dst in (None, tmp_path / "dst"):
        with pytest.raises(ValueError) as error:
            prepare_cityscapes(src, dst)
        assert f"{labels[0]} has values 42, expected 0..33" in str(error.value)
        assert f"{labels[1]} is 4x1, its image 4x2" in str(error.value)
        assert f"{labels[2]} cannot be read" in str(error.value)
    assert os.listdir(tmp_path) == ["src"] and not (src / "train.txt").exists()


def test_cityscapes_resumes_in_place(tmp_path, monkeypatch):
    src = cityscapes(tmp_path / "src")
    replace = os.replace

    def interrupted(part, target):
        if "000038" in str(target):
            raise KeyboardInterrupt
        return replace(part, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_cityscapes(src)
    assert len(train_ids(src)) == 1 and not list(src.rglob(".*")) and not (src / "train.txt").exists()
    assert prepare_cityscapes(src).counts == {"train": 4, "val": 2}
