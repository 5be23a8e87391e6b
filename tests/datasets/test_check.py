"""Each fault a data set can have is found, named and counted once."""

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin.datasets import check
from bisenetv1_plugin.datasets.check import check_config, orientation, quick_check
from bisenetv1_plugin.datasets.check.splits import read_config

LABEL = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)  # 3 of class 0, 3 of 1, 1 of 2, 1 ignored


@pytest.fixture()
def root(tmp_path):
    """Three images for training, two for validation, 4 classes of which class 3 never occurs."""
    for split, stems in {"train": "abc", "val": "de"}.items():
        for stem in stems:
            cv2.imwrite(str(tmp_path / f"{stem}.png"), np.zeros((2, 4, 3), np.uint8))
            cv2.imwrite(str(tmp_path / f"{stem}_label.png"), LABEL)
        (tmp_path / f"{split}.txt").write_text("".join(f"{s}.png {s}_label.png\n" for s in stems))
    return tmp_path


def config(root, train=None, val=None, **top):
    data = {}
    for mode, changes in (("train", train), ("val", val)):
        data[f"{mode}_dataset"] = {
            "type": "Dataset",
            "mode": mode,
            "dataset_root": str(root),
            f"{mode}_path": str(root / f"{mode}.txt"),
            "num_classes": 4,
            "transforms": [],
        }
        data[f"{mode}_dataset"].update(changes or {})
    data.update(
        batch_size=1,
        iters=1,
        optimizer={"type": "SGD"},
        lr_scheduler={"type": "PolynomialDecay", "learning_rate": 0.01},
        loss={"types": [{"type": "CrossEntropyLoss"}], "coef": [1]},
        model={"type": "FCN", "num_classes": 4},
    )
    data.update(top)
    path = root / "config.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def kinds(report):
    return [problem.kind for problem in report.problems]


def test_valid_data_set(root):
    told = []

    def progress(items, **about):
        told.append(about)
        yield from items

    report = check_config(config(root), progress=progress)
    assert report.ok and report.problems == [] and report.notes == []
    assert report.images == {"train": 3, "val": 2} and report.ignored == {"train": 3, "val": 2}
    assert report.counts["train"].dtype == np.int64
    assert report.counts["train"].tolist() == [9, 9, 3, 0] and report.counts["val"].tolist() == [6, 6, 2, 0]
    assert told == [{"desc": "check", "unit": "file", "total": 5}]


def test_report_text(root):
    (root / "classes.txt").write_text("road\ncar\nsky\npole\n")
    text = check_config(config(root)).to_text()
    assert "no problems" in text and "never in train: 3 pole\n" in text
    rows = {line.rsplit(None, 2)[0]: line.split()[-2:] for line in text.splitlines() if line}
    assert rows["0 road"] == ["42.86%", "42.86%"] and rows["3 pole"] == ["never", "never"]
    assert rows["ignored (of all pixels)"] == ["12.50%", "12.50%"] and rows["images"] == ["3", "2"]

    for stem in "abc":
        (root / f"{stem}.png").unlink()
    text = check_config(config(root)).to_text(shown=2)
    assert "3 problems" in text and "missing (3)" in text and "... and 1 more" in text
    assert "a.png" in text and "c.png" not in text


def test_problems_of_files(root):
    (root / "a.png").unlink()
    (root / "b_label.png").unlink()
    (root / "c.png").write_bytes((root / "c.png").read_bytes()[:-20])
    (root / "d_label.png").write_bytes((root / "d_label.png").read_bytes()[:-30])
    cv2.imwrite(str(root / "e_label.png"), LABEL[:1])
    report = check_config(config(root))
    assert not report.ok
    assert [(p.kind, Path(p.file).name) for p in report.problems] == [
        ("missing", "a.png"),
        ("missing", "b_label.png"),
        ("unreadable", "c.png"),
        ("unreadable", "d_label.png"),
        ("size", "e_label.png"),
    ]
    assert all(problem.file in problem.message for problem in report.problems)
    assert "4x1, its image" in report.problems[-1].message
    assert report.counts["train"].tolist() == [6, 6, 2, 0]  # of the labels that could be read


def test_truncated_jpeg_that_opencv_reads(root):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = root / "a.jpg"
    cv2.imwrite(str(path), noise)
    cv2.imwrite(str(root / "a_label.png"), np.zeros((64, 64), np.uint8))
    (root / "train.txt").write_text("a.jpg a_label.png\n")
    assert check_config(config(root)).ok
    path.write_bytes(path.read_bytes()[:-500])
    assert cv2.imread(str(path)) is not None
    assert kinds(check_config(config(root))) == ["unreadable"]


def test_label_values_and_formats(root):
    cv2.imwrite(str(root / "a_label.png"), np.where(LABEL == 1, 42, LABEL).astype(np.uint8))
    cv2.imwrite(str(root / "b_label.png"), np.zeros((2, 4, 3), np.uint8))
    cv2.imwrite(str(root / "c_label.png"), LABEL.astype(np.uint16))
    palette = Image.fromarray(LABEL, "P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(root / "d_label.png")
    report = check_config(config(root))
    assert kinds(report) == ["label values", "label format", "label format"]
    assert "a_label.png has 3 pixels of 42, neither a class (0..3) nor ignore_index (255)" in report.problems[0].message
    assert "mode RGB" in report.problems[1].message
    assert report.counts["val"].tolist() == [6, 6, 2, 0]


def test_ignore_index_in_the_range_of_classes(root):
    ignore = {"ignore_index": 1}
    loss = {"types": [{"type": "CrossEntropyLoss", "ignore_index": 1}], "coef": [1]}
    report = check_config(config(root, train=ignore, val=ignore, loss=loss))
    assert report.ignored == {"train": 9, "val": 6} and report.counts["val"].tolist() == [6, 0, 2, 0]
    assert kinds(report) == ["label values"] * 5 and "pixel of 255" in report.problems[0].message


def test_leak(root):
    with open(root / "val.txt", "a") as listing:
        listing.write("./b.png b_label.png\n")
    report = check_config(config(root))
    assert kinds(report) == ["leak"] and "in train and in val" in report.problems[0].message


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_copies(root, ending):
    """The same file, or its pixels in another file; black images do not count."""
    noise = np.random.default_rng(0).integers(0, 255, (2, 4, 3), np.uint8)
    cv2.imwrite(str(root / "b.png"), noise)
    cv2.imwrite(str(root / f"e.{ending}"), noise)
    (root / "val.txt").write_text(f"d.png d_label.png\ne.{ending} e_label.png\n")
    report = check_config(config(root))
    assert kinds(report) == ["leak"]
    assert f"e.{ending} of val is a copy of {root / 'b.png'} of train" in report.problems[0].message
    assert kinds(quick(root)) == ["leak"] * (ending == "png")  # only bytes are compared
    assert kinds(quick(root, seconds=0.0)) == ["leak"] * (ending == "png")


def test_copies_without_time_for_all(root, monkeypatch):
    monkeypatch.setattr(check, "_LEAST", -1.0)
    report = quick(root, seconds=0.0)
    assert report.ok and report.notes == ["not all images were compared for copies in train and val."]


def test_warnings(root):
    """Masks of 0 and 255, and another `Normalize` in val, are warnings, not problems."""
    for stem in "abc":
        cv2.imwrite(str(root / f"{stem}_label.png"), np.where(LABEL == 1, 255, 0))
    half = {"transforms": [{"type": "Normalize", "mean": [0.5, 0.5, 0.5]}]}
    other = {"transforms": [{"type": "Normalize", "mean": [0.4, 0.5, 0.6]}]}
    path = config(root, half, other)
    for report in (check_config(path), quick_check(read_config(path))):
        assert report.ok and len(report.warnings) == 2
        assert "mean and std [0.5, 0.5, 0.5] and [0.5, 0.5, 0.5], of val_dataset [0.4, 0.5, 0.6]" in report.to_text()
        assert "all labels of train have only class 0, and 255, which is ignored" in report.to_text()
    cv2.imwrite(str(root / "b_label.png"), LABEL)
    assert check_config(config(root, {"transforms": [{"type": "Normalize"}]}, half)).warnings == []


@pytest.mark.parametrize("channels", [1, 3])
def test_swapped_columns(root, channels):
    """One message, if all pairs of a list look swapped; also for gray images."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 40, channels), np.uint8)
    for stem in "abcde":
        cv2.imwrite(str(root / f"{stem}.png"), noise)
        cv2.imwrite(str(root / f"{stem}_label.png"), LABEL.repeat(10, 0).repeat(10, 1))
    text = (root / "train.txt").read_text()
    (root / "train.txt").write_text("".join(f"{s}_label.png {s}.png\n" for s in "abc"))
    for report in (check_config(config(root)), quick_check(read_config(config(root)))):
        assert kinds(report) == ["list"] and "train.txt has the label in front of the image" in report.to_text()
    (root / "train.txt").write_text("a_label.png a.png\n" + text)
    assert "list" not in kinds(check_config(config(root)))


def test_lists(root):
    (root / "train.txt").write_text("a.png a_label.png\n\nb.png\nc.png  c_label.png\n")
    (root / "val.txt").write_text("")
    report = check_config(config(root))
    assert kinds(report) == ["list", "list", "list", "empty"]
    assert "train.txt, line 2 has nothing" in report.problems[0].message
    assert "train.txt, line 3 has 1 column:" in report.problems[1].message
    assert "train.txt, line 4 has 3 columns:" in report.problems[2].message
    assert report.images == {"train": 1, "val": 0}
    report.to_text()

    (root / "train.txt").write_text("a.png,a_label.png\n")
    assert kinds(check_config(config(root, train={"separator": ","}))) == ["empty"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"train_path": "nowhere.txt"}, "train_path 'nowhere.txt' is not a file"),
        ({"train_path": None}, "train_path None is not a file"),
        ({"dataset_root": "nowhere"}, "dataset_root 'nowhere' is not a folder"),
        ({"mode": "training"}, "mode 'training'"),
    ],
)
def test_config_values(root, changes, words):
    report = check_config(config(root, train=changes))
    assert kinds(report) == ["config"] and words in report.problems[0].message
    assert report.images == {"val": 2}
    report.to_text()


def test_invalid_configs(root):
    with pytest.raises(FileNotFoundError, match="no config file"):
        check_config(root / "absent.yml")
    path = config(root)
    path.write_text("a: [")
    with pytest.raises(ValueError, match="does not accept"):
        check_config(path)
    path.write_text("iters: 1")
    with pytest.raises(ValueError, match="batch_size"):
        check_config(path)


def test_base_and_missing_val(root):
    base = config(root)
    child = root / "child.yml"
    two = {"num_classes": 2}
    child.write_text(yaml.safe_dump({"_base_": "config.yml", "train_dataset": two, "val_dataset": two, "model": two}))
    assert kinds(check_config(child)) == ["label values"] * 5

    data = yaml.safe_load(base.read_text())
    del data["val_dataset"]
    base.write_text(yaml.safe_dump(data))
    report = check_config(base)
    assert report.ok and "no val_dataset" in report.notes[0] and list(report.counts) == ["train"]


def test_coco_stuff_with_a_missing_label(tmp_path):
    for split in ("train", "val"):
        for name in ("01", "011", "02"):
            image = tmp_path / f"images/{split}2017/{name}.jpg"
            label = tmp_path / f"annotations/{split}2017/{name}.png"
            for path, array in ((image, np.zeros((2, 4, 3), np.uint8)), (label, LABEL)):
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), array)
    dataset = {"type": "CocoStuff", "dataset_root": str(tmp_path), "transforms": []}
    data = {f"{mode}_dataset": {**dataset, "mode": mode} for mode in ("train", "val")}
    path = config(tmp_path, model={"type": "FCN", "num_classes": 171}, **data)
    assert "pairing" not in kinds(check_config(path))
    (tmp_path / "annotations/train2017/01.png").unlink()
    report = check_config(path)
    assert [problem.kind for problem in report.problems if problem.kind == "pairing"] == ["pairing"]
    assert any("CocoStuff pairs" in problem.message and "011.png" in problem.message for problem in report.problems)


def test_cityscapes_with_a_missing_label(tmp_path):
    for split in ("train", "val"):
        for frame in "123":
            image = tmp_path / f"leftImg8bit/{split}/x/x_{split}_{frame}_leftImg8bit.png"
            label = tmp_path / f"gtFine/{split}/x/x_{split}_{frame}_gtFine_labelTrainIds.png"
            for path, array in ((image, np.zeros((2, 4, 3), np.uint8)), (label, LABEL)):
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), array)
    root = {"dataset_root": str(tmp_path)}
    data = {
        f"{mode}_dataset": {"type": "Cityscapes", "mode": mode, "transforms": [], **root} for mode in ("train", "val")
    }
    path = config(tmp_path, model={"type": "FCN", "num_classes": 19}, **data)
    report = check_config(path)
    assert report.ok and report.images == {"train": 3, "val": 3} and len(report.counts["train"]) == 19

    (tmp_path / "gtFine/train/x/x_train_1_gtFine_labelTrainIds.png").unlink()
    report = check_config(path)
    assert kinds(report) == ["pairing"] and "data prepare cityscapes" in report.problems[0].message

    for label in tmp_path.glob("gtFine/val/x/*"):
        label.unlink()
    assert kinds(check_config(path)) == ["pairing", "empty"]

    data["train_dataset"]["dataset_root"] = "nowhere"
    report = check_config(config(tmp_path, model={"type": "FCN", "num_classes": 19}, **data))
    assert kinds(report) == ["config", "empty"] and "cannot be constructed" in report.problems[0].message


def test_other_types(root):
    """A generated data set has no files; if labels are changed in memory, values on disk are not checked."""
    from paddleseg.cvlibs import manager
    from paddleseg.datasets import Dataset

    class GeneratedForTest:
        num_classes = 4

        def __init__(self, transforms):
            pass

    class ShiftedForTest(Dataset):
        def __getitem__(self, index):
            raise NotImplementedError

    for cls in (GeneratedForTest, ShiftedForTest):
        manager.DATASETS.components_dict.setdefault(cls.__name__, cls)
    cv2.imwrite(str(root / "d_label.png"), np.full_like(LABEL, 42))
    (root / "e.png").unlink()
    try:
        listed = yaml.safe_load(config(root).read_text())["val_dataset"]
        train = {"type": "GeneratedForTest", "transforms": []}
        report = check_config(config(root, train_dataset=train, val_dataset={**listed, "type": "ShiftedForTest"}))
    finally:
        for cls in (GeneratedForTest, ShiftedForTest):
            del manager.DATASETS.components_dict[cls.__name__]
    assert kinds(report) == ["missing"] and report.images == {"val": 2} and report.counts == {}
    assert "train: GeneratedForTest generates its images" in report.notes[0]
    assert "val: ShiftedForTest changes labels" in report.notes[1]


def quick(root, seconds=10.0, **changes):
    return quick_check(read_config(config(root, **changes)), seconds)


def test_quick_check_valid_data_set(root):
    report = quick(root)
    assert report.ok and report.notes == [] and report.images == {"train": 3, "val": 2}


def test_quick_check_reads_all_headers(root):
    """All header problems are found, even without time for pixels."""
    names = [f"{i:03}" for i in range(40)]
    for name in names:
        cv2.imwrite(str(root / f"{name}.png"), np.zeros((2, 4, 3), np.uint8))
        cv2.imwrite(str(root / f"{name}_label.png"), LABEL)
    (root / "train.txt").write_text("".join(f"{n}.png {n}_label.png\n" for n in [*names, "d"]))
    (root / "005.png").unlink()
    (root / "011_label.png").write_bytes(b"no image")
    cv2.imwrite(str(root / "022_label.png"), LABEL[:1])
    cv2.imwrite(str(root / "033_label.png"), np.zeros((2, 4, 3), np.uint8))
    Image.new("1", (30000, 30000)).save(root / "037.png")
    Image.new("RGB", (4, 2)).save(root / "038.png", format="PCX")
    report = quick(root, seconds=0.0)
    assert [(p.kind, Path(p.file).name) for p in report.problems] == [
        ("missing", "005.png"),
        ("unreadable", "011_label.png"),
        ("size", "022_label.png"),
        ("label format", "033_label.png"),
        ("unreadable", "037.png"),
        ("unreadable", "038.png"),
        ("leak", "d.png"),
    ]
    assert report.notes == ["the pixels of 8 of 43 pairs were read, and the headers of all."]
    assert all(problem.file in problem.message for problem in report.problems)


def test_quick_check_pixels(root):
    (root / "a.png").write_bytes((root / "a.png").read_bytes()[:-20])
    cv2.imwrite(str(root / "b_label.png"), np.where(LABEL == 1, 42, LABEL).astype(np.uint8))
    assert kinds(quick(root)) == ["unreadable", "label values"]


@pytest.mark.slow
def test_quick_check_keeps_its_time_limit(root):
    (root / "train.txt").write_text("a.png a_label.png\n" * 10000)
    started = time.monotonic()
    report = quick(root, seconds=0.5)
    assert time.monotonic() - started < 30  # two seconds on an idle machine
    assert report.images["train"] == 10000 and report.ok


def test_turned_by_exif(root):
    """OpenCV turns the image, so sizes are compared after that."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 4)).save(root / "a.jpg", exif=exif)
    (root / "train.txt").write_text("a.jpg a_label.png\n")
    assert check_config(config(root)).ok and quick(root).ok
    cv2.imwrite(str(root / "a_label.png"), LABEL.T)
    for report in (check_config(config(root)), quick(root)):
        assert kinds(report) == ["size"] and "by its EXIF orientation" in report.problems[0].message


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7, 8])
def test_turned_by_exif_without_a_change_of_size(root, number):
    rows, columns = np.indices((48, 48))
    shape = (2 * rows + columns < 44).astype(np.uint8)  # its eight orientations all differ
    shape[30:42, 8:18] = 2
    colored = np.array([(90, 80, 70), (200, 40, 30), (20, 160, 220)], np.uint8)[shape]
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(colored).save(root / "a.jpg", exif=exif, quality=95)
    (root / "train.txt").write_text("a.jpg a_label.png\n")
    cv2.imwrite(str(root / "a_label.png"), shape)
    for report in (check_config(config(root)), quick(root)):
        assert kinds(report) == ["orientation"]
        assert f"a_label.png fits its image {root / 'a.jpg'} as stored" in report.problems[0].message
    # Upright, or drawn on something else
    noise = np.random.default_rng(0).integers(0, 2, (48, 48), np.uint8)
    for label, note in ((orientation.turn(shape, number), False), (shape * 0, False), (noise, True)):
        cv2.imwrite(str(root / "a_label.png"), label)
        report = check_config(config(root))
        assert report.ok and quick(root).ok
        assert any("EXIF turns 1 image without" in note for note in report.notes) == note


def test_single_turned_label_is_not_a_problem(root):
    """Among many images with EXIF, one seemingly turned label stops no training; `data check` names it."""
    rows, columns = np.indices((48, 48))
    shape = (2 * rows + columns < 44).astype(np.uint8)  # its eight orientations all differ
    shape[30:42, 8:18] = 2
    exif = Image.Exif()
    exif[0x0112] = 3
    for name in "abc":
        Image.fromarray(np.stack([shape * 100] * 3, axis=2)).save(root / f"{name}.jpg", exif=exif, quality=95)
        cv2.imwrite(str(root / f"{name}_label.png"), shape if name == "b" else shape[::-1, ::-1])
    (root / "train.txt").write_text("".join(f"{name}.jpg {name}_label.png\n" for name in "abc"))
    assert quick(root).ok and kinds(check_config(config(root))) == ["orientation"]


@pytest.mark.skipif("CAMVID_DIR" not in os.environ, reason="CAMVID_DIR names no CamVid")
@pytest.mark.slow
@pytest.mark.parametrize("number, unclear", [(2, 40), (3, 3), (4, 8)])
def test_edges_of_photographs(number, unclear):
    """No upright street label is reported as turned; some of 100 are left to the user."""
    root = Path(os.environ["CAMVID_DIR"])
    found = {True: [], False: []}
    for line in (root / "val.txt").read_text().splitlines()[:100]:
        image, label = line.split()
        pixels, label = cv2.imread(str(root / image)), cv2.imread(str(root / label), cv2.IMREAD_UNCHANGED)
        raw = orientation.turn(label, {2: 2, 3: 3, 4: 4}[number])
        for turned, stored in ((False, label), (True, raw)):
            found[turned].append(orientation.needs_turn(pixels, stored, number))
    for turned, answers in found.items():
        assert (not turned) not in answers and answers.count(None) <= unclear, answers


@pytest.mark.skipif("CAMVID_DIR" not in os.environ, reason="CAMVID_DIR names no CamVid")
@pytest.mark.slow
def test_real_camvid(tmp_path):
    root = Path(os.environ["CAMVID_DIR"])
    changes = {
        mode: {"dataset_root": str(root), f"{mode}_path": str(root / f"{mode}.txt"), "num_classes": 11}
        for mode in ("train", "val")
    }
    report = check_config(config(tmp_path, model={"type": "FCN", "num_classes": 11}, **changes))
    assert report.ok and report.images == {"train": 367, "val": 101}
    assert quick_check(read_config(tmp_path / "config.yml"), 2.0).ok
    assert sum(report.counts["train"]) + report.ignored["train"] == 367 * 480 * 360
    assert (report.counts["train"] > 0).all() and (report.counts["val"] > 0).all()


def test_small_shares_are_not_zero():
    counts = np.array([999951, 49, 0])
    report = check.Report("my.yml", counts={"train": counts}, ignored={"train": 60}, images={"train": 1})
    assert [row.split()[-1] for row in report.table()[1:]] == ["100.00%", "<0.01%", "never", "0.01%", "1"]
