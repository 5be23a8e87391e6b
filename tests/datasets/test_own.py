"""Folders in all usual layouts become lists, class numbers and a configuration that builds."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin.datasets.check import check_config, quick_check
from bisenetv1_plugin.datasets.classes import named_classes
from bisenetv1_plugin.datasets.own import Options, coco, configure, layouts, tables, walk
from bisenetv1_plugin.datasets.own import recipe as recipes
from bisenetv1_plugin.datasets.own import split as splits
from bisenetv1_plugin.datasets.own.path_words import path_info
from bisenetv1_plugin.drawing import painter, plots
from bisenetv1_plugin.errors import InputError

W, H = 48, 40
STRIPES = np.repeat(np.arange(W) // 16, H).reshape(W, H).T.astype(np.uint8)  # thirds of 0, 1, 2


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def picture(seed, size=(W, H)):
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


def make(root, labels=STRIPES, names="abcdef", image="images/{}.jpg", label="labels/{}.png"):
    """A folder of images and labels; returns it."""
    for seed, name in enumerate(names):
        save(root / image.format(name), picture(seed))
        save(root / label.format(name), labels[seed] if isinstance(labels, list) else labels)
    return root


def made(root, **choices):
    """The result of `configure`, after a check that PaddleSeg accepts it."""
    out = root.parent / "made" / "my.yml"
    summary = configure(root, out, None, Options(**choices))
    report = check_config(out)
    assert report.ok, report.to_text()
    assert list(report.classes) == list(summary.report.classes)
    for name in ("train", "val"):
        assert report.counts[name].tolist() == summary.report.counts[name].tolist()
    return summary


def label_of(summary, stem):
    pairs = summary.pairs["train"] + summary.pairs["val"]
    return np.asarray(Image.open(next(label for image, label in pairs if image.stem == stem)))


def refused(root, **choices):
    """The error message, after a check that no files were written."""
    out = root.parent / "made" / "my.yml"
    before = contents(root)
    with pytest.raises(InputError) as caught:
        configure(root, out, None, Options(**choices))
    assert not list(out.parent.glob("*")) and not list(out.parent.glob(".*"))
    assert contents(root) == before
    return str(caught.value)


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture()
def root(tmp_path):
    return tmp_path / "data"


class TestLayouts:
    @pytest.mark.parametrize(
        "image, label",
        [
            ("images/{}.jpg", "labels/{}.png"),
            ("img/{}.JPG", "masks/{}.PNG"),
            ("JPEGImages/{}.jpeg", "SegmentationClass/{}.png"),
            ("imgs/a/b/{}.png", "gt/a/b/{}.png"),
            ("one/images/{}.bmp", "one/annotations/{}.bmp"),
            ("Images/{}.tif", "Ground_Truth/{}.tif"),
            ("原图/{}.jpg", "标注/{}.png"),
            ("图像/{}.jpg", "标签/{}.png"),
            ("相机/图片/{}.jpg", "相机/掩码/{}.png"),
            ("images/{}.ppm", "labels/{}.pgm"),
            ("images/{}.png", "labels/{}_mask.png"),
            ("images/{}.jpg", "labels/{}.jpg.png"),
            ("{}.jpg", "{}_L.png"),
            ("{}.jpg", "masks/{}.png"),
            ("images/{}.v1.png", "annotations/trimaps/{}.v1.png"),
            ("images/{}", "labels/{}"),
        ],
    )
    def test_folder_names_and_suffixes(self, root, image, label):
        formats = {} if Path(image.format("a")).suffix else {"format": "PNG"}
        for seed, name in enumerate("abcdef"):
            save(root / image.format(name), picture(seed), **formats)
            save(root / label.format(name), STRIPES, **formats)
        summary = made(root)
        assert summary.report.images == {"train": 4, "val": 2} and len(summary.report.classes) == 3
        assert all(image.name[0] == label.name[0] for pairs in summary.pairs.values() for image, label in pairs)

    @pytest.mark.parametrize(
        "image, label",
        [
            ("{}/images/x{}.jpg", "{}/labels/x{}.png"),
            ("images/{}/x{}.jpg", "labels/{}/x{}.png"),
            ("{}_images/x{}.jpg", "{}_masks/x{}.png"),
            ("{}/x{}.png", "{}annot/x{}.png"),
        ],
    )
    def test_splits_by_folder(self, root, image, label):
        for split, count in {"train": 3, "valid": 2, "test": 1}.items():
            for i in range(count):
                save(root / image.format(split, i), picture(sum(map(ord, split)) + i))
                save(root / label.format(split, i), STRIPES)
        summary = made(root)
        assert summary.report.images == {"train": 3, "val": 2}
        assert any("1 images of a test split" in note for note in summary.notes)

    def test_images_outside_of_the_splits(self, root):
        for seed, name in enumerate(("train/images/a", "train/images/b", "val/images/c", "more/images/d")):
            save(root / f"{name}.jpg", picture(seed))
            save(root / f"{name.replace('images', 'labels')}.png", STRIPES)
        summary = made(root)
        assert summary.report.images == {"train": 2, "val": 1}
        assert "1 images are neither in train nor in val, and are not used (d.jpg)." in summary.notes

    @pytest.mark.parametrize("names", [("训练集/原图", "验证/标签"), ("训练图像", "标注/验证集")])
    def test_chinese_splits(self, names):
        found = [path_info(Path(name, "甲.png")) for name in names]
        assert [(one.role, one.split, one.folders) for one in found] == [("image", "train", ()), ("label", "val", ())]

    def test_known_names_are_listed(self, root):
        message = refused(make(root, image="frames/{}.jpg", label="other/{}.png"))
        assert "image, img, imgs" in message and "原图" in message and "label, seg" in message and "掩码" in message

    @pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";", " /"])
    def test_lists(self, root, separator):
        make(root, image="x y/{} 1.jpg", label="z/{}.png")
        for name, stems in {"train": "abcd", "val": "ef"}.items():
            lines = [f"x y/{s} 1.jpg{separator}z/{s}.png" for s in stems]
            (root / f"{name}.txt").write_text("\ufeff" + "\n".join([*lines, ""]), "utf-8")
        summary = made(root)
        assert [image.stem for image, _ in summary.pairs["val"]] == ["e 1", "f 1"]
        assert 'separator: "\\t"' in summary.config.read_text()

    @pytest.mark.parametrize(
        "text, sentence",
        [
            ("", "train.txt is empty"),
            ("images/a.jpg labels/a.png\nimages/none.jpg labels/none.png\n", "train.txt, line 2: 'images/none.jpg"),
            ("images/none.jpg labels/none.png\n", "train.txt, line 1: 'images/none.jpg"),
        ],
    )
    def test_invalid_lists(self, root, text, sentence):
        make(root)
        (root / "train.txt").write_text(text)
        assert sentence in refused(root)

    def test_lists_with_swapped_columns(self, root):
        make(root)
        for name, stems in {"train": "abcd", "val": "ef"}.items():
            (root / f"{name}.txt").write_text("".join(f"labels/{s}.png images/{s}.jpg\n" for s in stems))
        assert "train.txt has the label in front of the image" in refused(root)

    def test_an_image_in_both_lists(self, root):
        make(root)
        for name in ("train", "val"):
            (root / f"{name}.txt").write_text("images/a.jpg labels/a.png\nimages/b.jpg labels/b.png\n")
        assert "images/a.jpg is in train and in val" in refused(root)

    def test_voc(self, root):
        """Lists name only images, most images have no label, and the palette gives the class names."""
        folder = root / "VOC2012"
        for seed, name in enumerate("abcdefgh"):
            save(folder / f"JPEGImages/{name}.jpg", picture(seed))
            save(folder / f"SegmentationObject/{name}.png", STRIPES * 7)
        label = np.where(STRIPES == 1, 15, np.where(STRIPES == 2, 255, 0)).astype(np.uint8)
        for name in "abcd":
            palette = Image.fromarray(label)
            palette.putpalette([channel for color in tables.voc_colors() for channel in color])
            (folder / "SegmentationClass").mkdir(exist_ok=True)
            palette.save(folder / f"SegmentationClass/{name}.png")
        lists = folder / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("c\nb\n")
        (lists / "val.txt").write_text("a\nd\nh\n")
        summary = made(root)
        assert summary.kind == "VOC" and summary.converted == 0
        assert [[image.stem for image, _ in summary.pairs[s]] for s in ("train", "val")] == [["c", "b"], ["a", "d"]]
        assert summary.report.classes[15] == "person" and summary.colors[15] == (192, 128, 128)
        assert any("val.txt" in note and "1 (h)" in note for note in summary.notes)

    def test_cityscapes_is_prepared(self, root):
        for split in ("train", "val"):
            for i in range(2):
                save(root / f"leftImg8bit/{split}/x/x_{i}_leftImg8bit.png", picture(sum(map(ord, split)) + i))
                save(root / f"gtFine/{split}/x/x_{i}_gtFine_labelIds.png", STRIPES + 7)  # road, sidewalk, parking
        summary = made(root)
        assert summary.report.classes[:2] == ["road", "sidewalk"] and summary.colors[0] == (128, 64, 128)
        assert set(np.unique(label_of(summary, "x_0_leftImg8bit"))) == {0, 1, 255}
        assert not list(root.rglob("*TrainIds*"))
        shutil.rmtree(root / "gtFine" / "val")
        shutil.rmtree(summary.config.parent)
        assert "no folder gtFine/val" in refused(root)

    def test_unpaired_files_are_named(self, root):
        make(root)
        (root / "images" / "a.jpg").unlink()
        (root / "labels" / "b.png").unlink()
        for junk in (".hidden.png", "Thumbs.db", "__MACOSX/images/c.jpg", "readme"):
            (root / "images" / junk).parent.mkdir(parents=True, exist_ok=True)
            (root / "images" / junk).write_bytes(b"junk")
        summary = made(root)
        assert sum(summary.report.images.values()) == 4
        assert summary.notes[:2] == [
            "images without a label, left out: 1 (images/b.jpg)",
            "labels without an image, left out: 1 (labels/a.png)",
        ]

    @pytest.mark.parametrize("names, sentence", [("", "no images with labels"), ("a", "one usable image")])
    def test_too_few(self, root, names, sentence):
        root.mkdir()
        assert sentence in refused(make(root, names=names))

    def test_two_are_enough(self, root):
        assert made(make(root, names="ab")).report.images == {"train": 1, "val": 1}

    def test_first_label_folder_is_used(self, root):
        make(root)
        for name in "abc":
            save(root / "masks" / f"{name}.png", picture(0))
        summary = made(root)
        assert (
            summary.notes[0] == "other labels than those in labels, left out: 3 (masks/a.png, masks/b.png, masks/c.png)"
        )

    def test_ambiguous(self, root):
        make(root)
        save(root / "labels" / "a.bmp", STRIPES)
        assert "images/a.jpg could have the label labels/a.bmp or labels/a.png" in refused(root)
        (root / "labels" / "a.bmp").unlink()
        save(root / "images" / "a.png", picture(0))
        assert "images/a.jpg and images/a.png both belong to labels/a.png" in refused(root)

    def test_circular_links(self, root):
        make(root)
        (root / "images" / "up").symlink_to(root, target_is_directory=True)
        (root / "0first").symlink_to(root / "images", target_is_directory=True)
        (root / "images" / "self").symlink_to("self")
        files = walk.files_under(root)
        assert len(files) == 13 and len({path.name for path in files}) == 13
        assert sum(made(root).report.images.values()) == 6

    def test_names(self, root):
        names = ["one two", "ü ñ", "日本 語", "d", "e", "it's"]
        summary = made(make(root, names=names))
        assert sum(summary.report.images.values()) == 6
        assert summary.config.parent.joinpath("my_data/train.txt").read_text("utf-8").count("\t") == 4

    def test_names_that_lists_cannot_contain(self, root):
        make(root)
        os.rename(root / "images" / "a.jpg", root / "images" / "a\tb.jpg")
        os.rename(root / "labels" / "a.png", root / "labels" / "a\tb.png")
        assert "has a tab" in refused(root)
        os.rename(root / "images" / "a\tb.jpg", os.fsencode(root / "images") + b"/\xff.jpg")
        assert "\\xff.jpg is not UTF-8" in refused(root)


class TestPairing:
    """Each of these was once paired wrongly, without a message."""

    def pairs(self, root):
        layout = layouts.find(root, walk.files_under(root))
        pairs = {
            split: [(str(image.relative_to(root)), str(label.relative_to(root))) for image, label, _ in some]
            for split, some in layout.pairs.items()
        }
        return pairs, layout.notes

    def lay(self, root, *paths):
        for seed, path in enumerate(paths):
            save(root / path, picture(seed) if path.endswith(".jpg") else STRIPES)

    @pytest.mark.parametrize("ending", ["", ".jpg"])
    @pytest.mark.parametrize("folder", ["", "images/", "data/images/", "./"])
    def test_lists_of_names_with_folders(self, root, folder, ending):
        for city in ("cityA", "cityB"):
            self.lay(root, *(f"images/{city}/{i}.jpg" for i in range(4)))
            self.lay(root, *(f"labels/{city}/{i}.png" for i in range(4)))
        for split, names in {"train": ["cityA/0", "cityA/1", "cityB/2"], "val": ["cityB/0", "cityC/1"]}.items():
            (root / f"{split}.txt").write_text("".join(f"{folder}{name}{ending}\n" for name in names))
        pairs, notes = self.pairs(root)
        assert pairs == {
            "train": [(f"images/{n}.jpg", f"labels/{n}.png") for n in ("cityA/0", "cityA/1", "cityB/2")],
            "val": [("images/cityB/0.jpg", "labels/cityB/0.png")],
        }
        named = f"{folder}cityC/1{ending}"
        assert f"names in val.txt without an image or label, left out: 1 ({named})" in notes
        assert any(note.startswith("images with labels that are in no list, left out: 4") for note in notes)

    def test_ambiguous_names_in_lists(self, root):
        for city in ("cityA", "cityB"):
            self.lay(root, f"images/{city}/0.jpg", f"labels/{city}/0.png")
        (root / "train.txt").write_text("0\n")
        (root / "val.txt").write_text("cityB/0\ncityB/0.jpg\n")
        pairs, notes = self.pairs(root)
        assert pairs == {"train": [], "val": [("images/cityB/0.jpg", "labels/cityB/0.png")]}
        assert "names in train.txt that several images have, left out: 1 (0)" in notes
        assert "repeated names in val.txt, left out: 1 (cityB/0.jpg)" in notes

    def test_lists_name_images_of_their_split(self, root):
        for split in ("train", "val"):
            self.lay(root, f"images/{split}/0.jpg", f"labels/{split}/0.png")
            (root / f"{split}.txt").write_text("0\n")
        self.lay(root, "images/val/1.jpg", "labels/val/1.png")
        (root / "train.txt").write_text("0\n1\n")
        pairs, notes = self.pairs(root)
        assert pairs == {s: [(f"images/{s}/0.jpg", f"labels/{s}/0.png")] for s in ("train", "val")}
        assert "names in train.txt without an image or label, left out: 1 (1)" in notes

    def test_unpaired_files_of_two_cameras(self, root):
        self.lay(root, *(f"images/cam{c}/000{i}.jpg" for c in "AB" for i in range(5)), "images/camA/0005.jpg")
        self.lay(root, *(f"labels/cam{c}/000{i}.png" for c in "AB" for i in range(5)), "labels/camB/0005.png")
        pairs, notes = self.pairs(root)
        assert pairs[""] == [(f"images/cam{c}/000{i}.jpg", f"labels/cam{c}/000{i}.png") for c in "AB" for i in range(5)]
        assert notes == [
            "images without a label, left out: 1 (images/camA/0005.jpg)",
            "labels without an image, left out: 1 (labels/camB/0005.png)",
        ]

    def test_unpaired_files_of_two_splits(self, root):
        self.lay(root, "train/images/0.jpg", "train/labels/0.png", "train/images/1.jpg", "val/labels/1.png")
        assert self.pairs(root)[0] == {"": [("train/images/0.jpg", "train/labels/0.png")]}

    def test_picture_below_labels_is_not_an_image(self, root):
        """`rgb` may hold the labels in colors."""
        self.lay(root, "images/0.jpg", "gt/0.png", "gt/1.png", "gt/rgb/1.png")
        pairs, notes = self.pairs(root)
        assert pairs == {"": [("images/0.jpg", "gt/0.png")]}
        assert "pictures in other folders, left out: 1 (gt/rgb/1.png)" in notes

    def test_labels_of_one_kind(self, root):
        self.lay(root, "images/0.jpg", "images/1.jpg", "labels/0.png", "masks/0.png", "masks/1.png")
        pairs, notes = self.pairs(root)
        assert pairs == {"": [("images/0.jpg", "labels/0.png")]}
        assert notes[0] == "images without a label, left out: 1 (images/1.jpg)"

    def test_names_with_label_suffixes(self, root):
        """`0_l` is another picture, of the left camera."""
        names = [f"{i}{side}" for i in range(1, 4) for side in ("", "_l")]
        self.lay(root, "images/0.jpg", "labels/0_l.png", *(f"images/{n}.jpg" for n in names))
        self.lay(root, *(f"labels/{n}.png" for n in names), *(f"labels/{i}_l.png" for i in range(1, 4)))
        self.lay(root, "images/5_l.jpg", "labels/5_l.png")
        pairs, notes = self.pairs(root)
        assert pairs == {"": [(f"images/{name}.jpg", f"labels/{name}.png") for name in (*names, "5_l")]}
        assert notes[0] == "images without a label, left out: 1 (images/0.jpg)"

    def test_names_with_and_without_suffixes(self, root):
        """One such picture among many is beside its label; a single one is ambiguous."""
        self.lay(root, *(f"images/{i}.jpg" for i in range(6)), *(f"labels/{i}_mask.png" for i in range(5)))
        self.lay(root, "labels/0.png", "labels/5.png")
        pairs, notes = self.pairs(root)
        assert pairs == {"": [(f"images/{i}.jpg", f"labels/{i}_mask.png") for i in range(5)]}
        assert notes[0] == "images without a label, left out: 1 (images/5.jpg)"
        for i in range(4):
            (root / f"labels/{i}_mask.png").unlink()
        (root / "labels/0.png").unlink()
        pairs, notes = self.pairs(root)
        assert pairs == {"": []}
        assert "images with more than one possible label, left out: 2" in "".join(notes)

    def test_second_suffix_if_names_are_equal(self, root):
        self.lay(root, "images/0.jpg", "labels/0.png", "labels/0_mask.png", "labels/0_seg.png")
        assert self.pairs(root)[0] == {"": [("images/0.jpg", "labels/0.png")]}

    @pytest.mark.parametrize(
        "image, label",
        [
            ("images/10k/{}/x.jpg", "labels/sem_seg/masks/{}/x.png"),
            ("{}/images/s1/x.jpg", "{}/labels/s1/seg_raw/x.png"),
            ("images/{}2017/x.jpg", "labels/{}2017/x.png"),
        ],
    )
    def test_other_folder_names(self, root, image, label):
        for split in ("train", "val"):
            self.lay(root, image.format(split), label.format(split))
        pairs, notes = self.pairs(root)
        assert pairs == {s: [(image.format(s), label.format(s))] for s in ("train", "val")}
        assert ("have different names" in "".join(notes)) == ("2017" not in image)

    @pytest.mark.slow
    @pytest.mark.parametrize("label", ["labels/s{}/{}.png", "labels/s{}/seg_raw/{}.png", "labels/{}_{}.png"])
    def test_many_folders(self, root, label):
        """Quadratic time in files or folders would take minutes here."""
        numbers = [(scene, i) for scene in range(1500) for i in range(20)]
        image = "images/s{0}/{0}_{1}.jpg" if label == "labels/{}_{}.png" else "images/s{}/{}.jpg"
        started = time.monotonic()
        files = [Path(form.format(*number)) for number in numbers for form in (image, label)]
        assert len(layouts.find(root, files).pairs[""]) == len(numbers)
        assert time.monotonic() - started < 60


class TestCoco:
    def content(self, root, split="", names=("a", "b", "c")):
        """Two categories with ids 3 and 7: a polygon over a larger box, and a crowd in RLE."""
        for name in names:
            save(root / f"{split}images/{name}.jpg", picture(ord(name)))
        box, inner = [0, 0, 24, 0, 24, 40, 0, 40], [0, 0, 12, 0, 12, 40, 0, 40]
        crowd = {"size": [H, W], "counts": [36 * H, 12 * H]}
        annotations = []
        for image in range(len(names)):
            for category, shape, area in ((3, [inner], 480), (7, [box], 960), (7, crowd, 480)):
                annotations.append({"image_id": image, "category_id": category, "segmentation": shape, "area": area})
        return {
            "images": [{"id": i, "file_name": f"{n}.jpg", "width": W, "height": H} for i, n in enumerate(names)],
            "categories": [{"id": 7, "name": "car"}, {"id": 3, "name": "person"}],
            "annotations": annotations,
        }

    def test_instances(self, root):
        pytest.importorskip("pycocotools")
        content = self.content(root)
        content["images"].append({"id": 9, "file_name": "gone.jpg", "width": W, "height": H})
        (root / "instances.json").write_text(json.dumps(content))
        summary = made(root)
        label = label_of(summary, "b")
        assert label[:, ::12].tolist() == [[1, 2, 0, 2]] * H and summary.report.classes == [
            "background",
            "person",
            "car",
        ]
        assert any("gone.jpg" in note for note in summary.notes)

    def test_splits(self, root):
        pytest.importorskip("pycocotools")
        (root / "annotations").mkdir(parents=True)
        for split, names in {"train": "abc", "val": "de"}.items():
            content = self.content(root, f"{split}2017/", names)
            (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
            captions = {**content, "annotations": [{"image_id": 0, "caption": "a road"}]}
            (root / f"annotations/captions_{split}2017.json").write_text(json.dumps(captions))
        assert made(root).report.images == {"train": 3, "val": 2}

    def test_without_pycocotools(self, root, monkeypatch):
        monkeypatch.setitem(sys.modules, "pycocotools", None)
        root.mkdir()
        (root / "instances.json").write_text(json.dumps(self.content(root)))
        assert "pip install '.[coco]'" in refused(root)

    def test_panoptic(self, root, monkeypatch):
        monkeypatch.setitem(sys.modules, "pycocotools", None)  # it is not needed
        content = self.content(root)
        ids = np.select([STRIPES == 0, STRIPES == 1], [70000, 300], 0)
        content["annotations"] = [
            {
                "image_id": i,
                "file_name": f"{name}.png",
                "segments_info": [{"id": 70000, "category_id": 7}, {"id": 300, "category_id": 3}],
            }
            for i, name in enumerate("abc")
        ]
        for name in "abc":
            colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)
            save(root / f"annotations/panoptic/{name}.png", colors)
        (root / "annotations/panoptic.json").write_text(json.dumps(content))
        summary = made(root)
        assert summary.report.classes == ["person", "car"]
        assert label_of(summary, "a")[0, ::16].tolist() == [1, 0, 255]

    @pytest.mark.parametrize("json_at", ["annotations/panoptic.json", "panoptic.json", "ann/of/them.json"])
    @pytest.mark.parametrize("images, annotated", [("photos", "annotations/panoptic"), ("zz", "panoptic")])
    def test_panoptic_annotations_with_the_names_of_images(self, root, images, annotated, json_at):
        """An annotation is never used as the image; ambiguous cases are refused."""
        content = self.content(root)
        shutil.rmtree(root)
        content["annotations"] = [
            {
                "image_id": i,
                "file_name": f"{name}.png",
                "segments_info": [{"id": 1, "category_id": 3}, {"id": 2, "category_id": 7}],
            }
            for i, name in enumerate("abc")
        ]
        for seed, name in enumerate("abc"):
            content["images"][seed]["file_name"] = f"{name}.png"
            save(root / f"{images}/{name}.png", picture(seed))
            save(root / f"{annotated}/{name}.png", np.dstack([STRIPES, STRIPES * 0, STRIPES * 0]))
        (root / json_at).parent.mkdir(parents=True, exist_ok=True)
        (root / json_at).write_text(json.dumps(content))
        if images == "zz" and "them" in json_at:
            assert "annotations[0] names a.png, which may be panoptic/a.png or zz/a.png" in refused(root)
            return
        summary = made(root)
        pairs = [pair for some in summary.pairs.values() for pair in some]
        assert sorted(str(image.relative_to(root)) for image, _ in pairs) == [f"{images}/{n}.png" for n in "abc"]
        assert label_of(summary, "a")[0, ::16].tolist() == [255, 0, 1]

    def test_panoptic_of_one_class_is_not_binary(self, root):
        content = self.content(root)
        content["annotations"] = [
            {"image_id": i, "file_name": f"{name}.png", "segments_info": [{"id": 1, "category_id": 3}]}
            for i, name in enumerate("abc")
        ]
        for name in "abc":
            save(root / f"panoptic/{name}.png", np.dstack([STRIPES, STRIPES * 0, STRIPES * 0]))
        (root / "panoptic.json").write_text(json.dumps(content))
        assert label_of(made(root), "a")[0, ::16].tolist() == [255, 0, 255]

    def test_label_pictures_are_not_images(self, root):
        pytest.importorskip("pycocotools")
        content = self.content(root)
        for name in "abc":
            (root / f"images/{name}.jpg").rename(root / f"images/{name}.png")
            save(root / f"Masks/{name}.png", STRIPES)
        for image, name in zip(content["images"], "abc"):
            image["file_name"] = f"{name}.png"
        (root / "images/c.png").unlink()
        (root / "instances.json").write_text(json.dumps(content))
        found, _ = coco.find(root, walk.files_under(root))
        layout, _ = coco.write_labels(found, root, walk.files_under(root), root.parent / "drawn")
        assert [str(pair.image.relative_to(root)) for pair in layout.pairs[""]] == ["images/a.png", "images/b.png"]
        assert layout.notes == ["annotated images that do not exist, left out: 1 (c.png)"]

    def test_images_of_two_folders(self, root):
        """Of its own split, by the folder that the JSON names, or unclear."""
        pytest.importorskip("pycocotools")
        content = self.content(root)
        for name in ("train2017/a.jpg", "val2017/a.jpg", "camA/b.jpg", "camB/b.jpg", "camA/c.jpg", "camB/c.jpg"):
            save(root / name, picture(len(name)))
        shutil.rmtree(root / "images")
        content["images"][1]["file_name"] = "camB/b.jpg"
        (root / "instances_val2017.json").write_text(json.dumps(content))
        found, _ = coco.find(root, walk.files_under(root))
        layout, _ = coco.write_labels(found, root, walk.files_under(root), root.parent / "drawn")
        assert [str(pair.image.relative_to(root)) for pair in layout.pairs[""]] == ["val2017/a.jpg", "camB/b.jpg"]
        assert layout.notes == ["annotated images with a name that several files have, left out: 1 (c.jpg)"]


class TestLabels:
    def colored(self, colors=((128, 0, 0), (0, 0, 0), (0, 128, 0))):
        return np.array(colors, np.uint8)[STRIPES]

    def test_class_numbers_are_not_converted(self, root):
        summary = made(make(root))
        assert summary.converted == 0 and summary.report.classes == ["0", "1", "2"]
        assert not (summary.folder / "labels").exists() and not (summary.folder / "colors.txt").exists()

    def test_a_palette_gives_the_colors(self, root):
        make(root)
        for path in root.glob("labels/*"):
            label = Image.fromarray(STRIPES)
            label.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90] + [0] * 759)
            label.save(path)
        summary = made(root)
        assert summary.converted == 0 and summary.colors == [(10, 20, 30), (40, 50, 60), (70, 80, 90)]
        assert not any("void" in note for note in summary.notes)

    def test_a_palette_with_void_among_the_classes(self, root):
        """As VOC's, but with another number, which a training would learn."""
        make(root)
        for path in root.glob("labels/*"):
            label = Image.fromarray(STRIPES)
            label.putpalette([0, 0, 0, 128, 0, 0, 224, 224, 192] + [0] * 759)
            label.save(path)
        assert any("The value 2 has the color (224, 224, 192), which means void" in note for note in made(root).notes)

    def test_conflicting_palettes(self, root):
        """Each file was saved with as few colors as it has, so numbers differ between files."""
        make(root)
        for i, path in enumerate(sorted(root.glob("labels/*"))):
            order = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
            order = order if i % 2 else order[::-1]
            label = Image.fromarray(STRIPES if i % 2 else 2 - STRIPES)
            label.putpalette([channel for color in order for channel in color] + [0] * 759)
            label.save(path)
        summary = made(root)
        assert summary.report.classes == ["rgb_0_0_0", "rgb_0_128_0", "rgb_128_0_0"] and summary.converted == 6
        assert all(label_of(summary, stem)[0, ::16].tolist() == [0, 2, 1] for stem in "ab")

    def test_colors_without_a_table(self, root):
        summary = made(make(root, self.colored()))
        assert summary.report.classes == ["rgb_0_0_0", "rgb_0_128_0", "rgb_128_0_0"] and summary.converted == 6
        assert label_of(summary, "c")[0, ::16].tolist() == [2, 0, 1]
        # The table that was written, with names in it, is one for the next time
        table = summary.folder / "colors.txt"
        assert table.read_text() == "rgb_0_0_0 0 0 0\nrgb_0_128_0 0 128 0\nrgb_128_0_0 128 0 0\n"
        edited = root.parent / "edited.txt"
        edited.write_text("# mine\nvoid 0 0 0\ntall tree 0 128 0\nhouse 128 0 0\n")
        shutil.rmtree(summary.config.parent)
        summary = made(root, colors=str(edited))
        assert summary.report.classes == ["tall tree", "house"]
        assert label_of(summary, "c")[0, ::16].tolist() == [1, 255, 0]
        assert named_classes(summary.folder) == (("tall tree", "house"), ((0, 128, 0), (128, 0, 0)))

    @pytest.mark.parametrize(
        "name, text",
        [
            ("label_colors.txt", "128 0 0\t\thouse\n0 0 0 Void\n0 128 0 tree\n"),
            ("label_colours.txt", "128 0 0 house\n0 0 0 Void\n0 128 0 tree\n"),
            ("colours.txt", "house 128 0 0\nvoid 0 0 0\ntree 0 128 0\n"),
            ("labelmap.txt", "# label:color_rgb:parts:actions\nhouse:128,0,0::\nvoid:0,0,0::\ntree:0,128,0::\n"),
            ("class_dict.csv", "name,r,g,b\nhouse,128,0,0\nunlabelled,0,0,0\ntree,0,128,0\n"),
        ],
    )
    def test_tables_in_the_folder(self, root, name, text):
        make(root, self.colored())
        (root / name).write_text(text)
        summary = made(root)
        assert summary.report.classes == ["house", "tree"] and label_of(summary, "a")[0, ::16].tolist() == [0, 255, 1]

    @pytest.mark.parametrize("text", ["", "house 128 0\n", "house 300 0 0\n", "a 1 2 3\nb 1 2 3\n", "\xff"])
    def test_invalid_tables(self, root, text):
        make(root, self.colored())
        (root / "class_dict.csv").write_bytes(text.encode("latin-1"))
        assert "class_dict.csv" in refused(root)

    def test_color_missing_from_the_table(self, root):
        labels = self.colored()
        labels[0, 0] = 1, 2, 3
        make(root, labels)
        (root / "colors.txt").write_text("house 128 0 0\nsky 0 0 0\ntree 0 128 0\n")
        assert re.search(
            r"label .*\.png has 1 pixel of the color \(1, 2, 3\), which is not in .*colors.txt", refused(root)
        )
        (root / "colors.txt").write_text("house 128 0 0\nsky 0 0 0\ntree 0 128 0\npole 1 2 3\n")
        assert made(root).report.classes[3] == "pole"

    def test_binary_with_a_stray_value(self, root):
        self.stray(root)
        for path in root.glob("labels/*"):
            label = np.asarray(Image.open(path))
            save(path, np.where(label == 1, 255, np.where(label == 200, 200, 0)).astype(np.uint8))
        summary = made(root, ignore_rare=True)
        assert summary.report.classes == ["background", "foreground"] and summary.report.ignored["train"] == 1

    def test_names_by_value(self, root):
        """As Roboflow exports masks."""
        for split in ("train", "valid"):
            make(root, names="abc", image=split + "/{}.jpg", label=split + "/{}_mask.png")
            for seed, name in enumerate("abc"):
                save(root / split / f"{name}.jpg", picture(sum(map(ord, split)) + seed))
            (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, car\n2, sky\n")
        assert made(root).report.classes == ["background", "car", "sky"]

    def test_binary(self, root):
        summary = made(make(root, np.where(STRIPES == 1, 255, 0).astype(np.uint8)))
        assert summary.report.classes == ["background", "foreground"] and summary.converted == 6
        assert summary.report.ignored == {"train": 0, "val": 0}
        assert label_of(summary, "a")[0, ::16].tolist() == [0, 1, 0]
        assert any("255 became class 1" in note for note in summary.notes)

    @pytest.mark.parametrize("form", ["gray", "bit", "rgb", "alpha"])
    def test_binary_in_other_formats(self, root, form):
        make(root)
        mask = np.where(STRIPES == 1, 255, 0).astype(np.uint8)
        for path in root.glob("labels/*"):
            image = Image.fromarray(mask)
            image.convert({"gray": "L", "bit": "1", "rgb": "RGB", "alpha": "LA"}[form]).save(path)
        summary = made(root)
        assert label_of(summary, "a")[0, ::16].tolist() == [0, 1, 0]

    def test_255_beside_other_classes_is_ignored(self, root):
        summary = made(make(root, np.where(STRIPES == 2, 255, STRIPES).astype(np.uint8)))
        assert summary.report.classes == ["0", "1"] and summary.converted == 0 and summary.report.ignored["train"]

    def test_16_bits(self, root):
        summary = made(make(root, STRIPES.astype(np.uint16)))
        assert summary.converted == 6 and label_of(summary, "a")[0, ::16].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        "labels, sentence",
        [
            (STRIPES.astype(np.uint16) * 200, r"\.png contains the value 400 \(640 pixels\), but classes are 0\.\.254"),
            (np.zeros_like(STRIPES), "the labels have 1 class beside"),
            (np.full_like(STRIPES, 255), "the labels have 0 classes beside"),
            (
                STRIPES * 50,
                r"\.png contains the value 50 \(640 pixels\), but no label contains 1, 2, 3, 4, 5, 6, \.\.\.",
            ),
            (STRIPES + 1, r"\.png contains the value 1 \(640 pixels\), but no label contains 0"),
            (STRIPES[:-1], r"labels/a\.png is 48x39, its image .*images/a\.jpg 48x40"),
        ],
    )
    def test_refused(self, root, labels, sentence):
        assert re.search(sentence, refused(make(root, labels)))

    def test_values_after_a_gap(self, root):
        make(root, STRIPES * 50)
        summary = made(root, keep_rare=True)
        assert summary.report.classes == ["value_0", "value_50", "value_100"]
        assert label_of(summary, "a")[0, ::16].tolist() == [0, 1, 2]
        shutil.rmtree(summary.config.parent)
        assert made(root, classes=["sky", "tree", "road"]).report.classes == ["sky", "tree", "road"]

    def stray(self, root):
        """Six labels of 160x100; one has a pixel of 200."""
        wide = cv2.resize(STRIPES, (160, 100), interpolation=cv2.INTER_NEAREST)
        labels = [wide.copy() for _ in range(6)]
        labels[2][7, 7] = 200
        make(root, labels)
        for i, path in enumerate(sorted(root.glob("images/*"))):
            save(path, picture(i, (160, 100)))
        return root

    def test_a_stray_pixel(self, root):
        sentence = refused(self.stray(root))
        assert "labels/c.png contains the value 200 (1 pixel), less than 0.01 % of all pixels" in sentence
        assert "--keep_rare" in sentence and "--ignore_rare" in sentence
        summary = made(root, ignore_rare=True)
        assert len(summary.report.classes) == 3 and summary.converted == 1 and label_of(summary, "c")[7, 7] == 255
        shutil.rmtree(summary.config.parent)
        summary = made(root, keep_rare=True)
        assert summary.report.classes == ["value_0", "value_1", "value_2", "value_200"]
        assert label_of(summary, "c")[7, 7] == 3
        assert "c" in [image.stem for image, _ in summary.pairs["train"]]  # the only one with that class

    def test_named_values_may_be_rare(self, root):
        self.stray(root)
        label = np.asarray(Image.open(root / "labels" / "c.png")).copy()
        label[7, 7] = 3
        save(root / "labels" / "c.png", label)
        assert "c.png contains the value 3 (1 pixel), less" in refused(root)
        (root / "classes.txt").write_text("sky\nroad\ntree\npole\n")
        assert made(root).report.classes == ["sky", "road", "tree", "pole"]

    def test_a_value_beyond_the_names(self, root):
        make(root)
        (root / "classes.txt").write_text("sky\nroad\n")
        assert "pixels), but only 2 classes have names (0..1)" in refused(root)

    def test_smoothed_edges(self, root):
        """Of a mask that was resized: values between 0 and 255."""
        mask = cv2.GaussianBlur(cv2.circle(np.zeros((H, W), np.uint8), (20, 20), 9, 255, -1), (9, 9), 3)
        assert "smoothed by an editor or a resize" in refused(make(root, mask))

    @pytest.mark.parametrize("ending, options", [("jpg", {}), ("webp", {}), ("gif", {}), ("png", {"format": "JPEG"})])
    def test_lossy_formats(self, root, ending, options):
        make(root, label=f"labels/{{}}.{ending}")
        for path in root.glob("labels/*"):
            save(path, STRIPES, **options)
        sentence = refused(root)
        assert f"labels/a.{ending} is not a PNG." in sentence and "export the labels again" in sentence
        assert "and 3 more" in sentence

    def test_numbers_and_colors(self, root):
        assert "b.png has colors and" in refused(make(root, [STRIPES, self.colored()] * 3))

    def test_photographs(self, root):
        sentence = refused(make(root, picture(0)), keep_rare=True)
        assert "more than 255 colors" in sentence


class TestImages:
    def test_images_of_other_channels(self, root):
        make(root, names="abcd", image="images/{}.png")
        rgba = np.dstack([picture(0), np.full((H, W), 9, np.uint8)])
        save(root / "images/a.png", rgba)
        save(root / "images/b.png", picture(0)[..., 0])
        save(root / "images/c.png", picture(0)[..., 0].astype(np.uint16) * 4)
        summary = made(root)
        assert (cv2.imread(str(root / "images/a.png"))[..., ::-1] == picture(0)).all()
        assert any("1 images have 16 bits" in note for note in summary.notes)
        assert any("nearly black" in note and "c.png" in note for note in summary.notes)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif(self, root, orientation):
        """A label drawn on the stored pixels is turned with them; an upright label is not."""
        make(root, [STRIPES] * 5 + [STRIPES])
        marks = np.zeros((H, W, 3), np.uint8)
        marks[:10, :10] = 255  # one corner: shows every turn
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(marks).save(root / "images/a.jpg", exif=exif, quality=100)
        seen = cv2.imread(str(root / "images/a.jpg"))[..., 0] > 128
        raw = marks[..., 0] // 255
        upright = seen.astype(np.uint8)
        for label in (raw, upright) if orientation >= 5 else (upright,):
            save(root / "labels/a.png", label)
            summary = made(root)
            assert (label_of(summary, "a") == seen).mean() > 0.98
            turned = orientation >= 5 and label is raw
            assert summary.converted == turned and any("were turned" in note for note in summary.notes) == turned
            assert any("are upright" in note for note in summary.notes) == (orientation in (2, 3, 4))
            shutil.rmtree(summary.config.parent)

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_exif_without_a_change_of_size(self, root, orientation):
        """For square or upside-down images, edges show whether the label must be turned."""
        make(root)
        rows, columns = np.indices((48, 48))
        shape = (2 * rows + columns < 44).astype(np.uint8)  # its eight orientations all differ
        shape[30:42, 8:18] = 2
        exif = Image.Exif()
        exif[0x0112] = orientation
        colored = np.array([(90, 80, 70), (200, 40, 30), (20, 160, 220)], np.uint8)[shape]
        Image.fromarray(colored).save(root / "images/a.jpg", exif=exif, quality=95)
        upright = np.where(cv2.imread(str(root / "images/a.jpg"))[..., 2] > 140, 1, 0)  # the red one
        upright = np.where(cv2.imread(str(root / "images/a.jpg"))[..., 0] > 140, 2, upright).astype(np.uint8)
        for label, turned in ((shape, 1), (upright, 0)):
            save(root / "labels/a.png", label)
            summary = made(root)
            assert (label_of(summary, "a") == upright).mean() > 0.98 and summary.converted == turned
            assert any("EXIF turns 1 images but not their labels" in note for note in summary.notes) == turned
            assert any("edges show that their labels are upright" in note for note in summary.notes) == (not turned)
            shutil.rmtree(summary.config.parent)
        save(root / "labels/a.png", np.where(picture(1, (48, 48))[..., 0] > 127, 1, 0).astype(np.uint8))
        summary = made(root)
        assert any("edges do not show" in note and "(a.jpg)" in note for note in summary.notes)

    def breakers(self):
        def truncate(path):
            path.write_bytes(path.read_bytes()[:-200])

        return {
            "truncated": ("images/c.jpg", truncate),
            "text": ("images/c.jpg", lambda path: path.write_text("no image")),
            "empty": ("images/c.jpg", lambda path: path.write_bytes(b"")),
            "nowhere": ("images/c.jpg", lambda path: (path.unlink(), path.symlink_to("nowhere"))),
            "pcx": ("images/c.jpg", lambda path: Image.fromarray(picture(0)).save(path, format="PCX")),
            "float": ("images/c.jpg", lambda path: save(path, picture(0)[..., 0].astype("float32"), format="TIFF")),
            "bomb": ("images/c.jpg", self.bomb),
            "label": ("labels/c.png", lambda path: path.write_bytes(path.read_bytes()[:-30])),
            "label bomb": ("labels/c.png", self.bomb),
        }

    @staticmethod
    def bomb(path):
        """A file of a few kilobytes that claims 900 million pixels."""
        Image.new("1", (30000, 30000)).save(path, format="PNG")

    @pytest.mark.parametrize(
        "what", ["truncated", "text", "empty", "nowhere", "pcx", "float", "bomb", "label", "label bomb"]
    )
    def test_broken_files(self, root, what):
        make(root)
        name, breaker = self.breakers()[what]
        breaker(root / name)
        with pytest.raises(InputError) as caught:
            configure(root, root.parent / "never" / "my.yml")
        assert str(root / name) in str(caught.value) and "--skip_broken" in str(caught.value)
        assert {"pcx": "OpenCV cannot read PCX", "bomb": "decompression bomb"}.get(what, "") in str(caught.value)
        summary = made(root, skip_broken=True)
        assert sum(summary.report.images.values()) == 5
        assert any(f"cannot be read, left out: 1 ({Path(name).name})" in note for note in summary.notes)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
    def test_permissions(self, root):
        make(root)
        (root / "images/c.jpg").chmod(0)
        assert "images/c.jpg cannot be read" in refused(root)

    def test_permissions_as_root(self, root, monkeypatch):
        """As `test_permissions`, where tests run as root."""
        make(root)
        opened = Image.open

        def locked(path, *arguments, **keywords):
            if str(path).endswith("c.jpg"):
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *arguments, **keywords)

        monkeypatch.setattr(Image, "open", locked)
        sentence = refused(root)
        assert "c.jpg cannot be read" in sentence and "Permission denied" in sentence

    def test_small_and_large_images(self, root):
        """40x30 and 8000x6000, in bounded memory."""
        root.mkdir()
        for kind in ("images", "labels"):
            (root / kind).mkdir()
        sizes = {"a": (8000, 6000), "b": (40, 30), "c": (8000, 6000), "d": (640, 480)}
        for name, (width, height) in sizes.items():
            Image.new("RGB", (width, height), (90, 80, 70)).save(root / f"images/{name}.jpg")
            label = np.zeros((height, width), np.uint8)
            label[: height // 2] = 1
            save(root / f"labels/{name}.png", label)
        code = (
            "from bisenetv1_plugin.datasets.own import configure; from bisenetv1_plugin.machine import process_memory; "
            f"configure({str(root)!r}, {str(root.parent / 'made/my.yml')!r}); "
            "print(process_memory('VmHWM'))"
        )
        done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert 0 < int(done.stdout) < 2e9  # bytes
        config = yaml.safe_load((root.parent / "made/my.yml").read_text())
        for part in ("train_dataset", "val_dataset"):
            assert config[part]["transforms"][0] == {"type": "LimitLong", "max_long": 2048}

    @pytest.mark.parametrize("size, limit", [(0, None), (32, 32), (None, None)])
    def test_max_size(self, root, size, limit):
        summary = made(make(root), max_size=size)
        assert summary.recipe.max_long == limit and ("LimitLong" in summary.config.read_text()) == bool(limit)

    def test_max_size_is_refused(self, root):
        assert "--max_size is 5" in refused(make(root), max_size=5)


class TestSplit:
    def test_every_fifth(self):
        train, val = splits.every_fifth(np.ones((11, 2), bool))
        assert val == [0, 5, 10] and train == [1, 2, 3, 4, 6, 7, 8, 9]

    def test_every_class_is_learned(self):
        present = np.zeros((10, 4), bool)
        present[:, 0] = True
        present[0, 1] = present[5, 2] = present[2, 3] = True  # 0 and 5 would validate
        train, val = splits.every_fifth(present)
        assert present[train].any(axis=0).all() and len(val) == 2 and sorted(train + val) == list(range(10))
        assert 2 in train

    def test_rare_classes_are_scored(self):
        """Class 1 is in three training images, class 2 in one, which stays."""
        present = np.zeros((10, 3), bool)
        present[:, 0] = True
        present[[2, 4, 8], 1] = present[8, 2] = True
        train, val = splits.every_fifth(present)
        assert val == [2, 5] and sorted(train + val) == list(range(10))

    def test_swaps_for_rare_classes_take_none_from_val(self):
        """Class 1 moves in exchange for image 5: image 0 alone has class 2 in val."""
        present = np.zeros((10, 3), bool)
        present[:, 0] = True
        present[[1, 2], 1] = present[[0, 3], 2] = True
        train, val = splits.every_fifth(present)
        assert val == [0, 1] and present[train].any(axis=0).all()

    def test_examples_show_every_class(self):
        present = np.zeros((10, 4), bool)
        present[:, 0] = present[5, 1] = present[[6, 7], 2] = present[7, 3] = True
        assert splits.examples(present) == [0, 3, 5, 7]
        assert splits.examples(np.ones((1, 2), bool)) == [0] and splits.examples(np.ones((2, 2), bool)) == [0, 1]

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_every_image_has_its_own_class(self, count):
        train, val = splits.every_fifth(np.eye(count, dtype=bool))
        assert train and val and sorted(train + val) == list(range(count))

    def test_copies_stay_in_one_split(self, root):
        """`a` would be in val, and a copy of it, or of its pixels, in train."""
        make(root, names="abcdefgh", image="images/{}.png")
        shutil.copy(root / "images/a.png", root / "images/c.png")
        summary = made(root)
        assert "Copies of training images were moved to the training images: 1." in summary.notes
        assert [image.stem for image, _ in summary.pairs["val"]] == ["f"]
        shutil.rmtree(summary.config.parent)
        Image.open(root / "images/a.png").save(root / "images/c.png", compress_level=1)
        assert [image.stem for image, _ in made(root).pairs["val"]] == ["f"]

    def test_copies_give_val_no_class(self, root):
        """Class 2 is in `d` and its copy `e`: with one of them in val, the other would train."""
        rare = STRIPES % 2
        rare[0] = 2
        make(root, [STRIPES % 2] * 3 + [rare] * 2, names="abcde", image="images/{}.png")
        shutil.copy(root / "images/d.png", root / "images/e.png")
        summary = made(root)
        assert [image.stem for image, _ in summary.pairs["val"]] == ["a"]
        assert "No validation image has 2: learned, but never scored." in summary.notes

    def test_examples_are_in_the_lists(self, root):
        """Images in neither of the folder's splits are not shown, whatever their classes."""
        for number, (split, classes) in enumerate([("train", 2), ("val", 2), ("other", 3)]):
            make(root, STRIPES % classes, split[0], f"{split}/images/{{}}.png", f"{split}/labels/{{}}.png")
            save(root / f"{split}/images/{split[0]}.png", picture(number))
        summary = made(root)
        assert sorted(summary.examples) == sorted(summary.pairs["train"] + summary.pairs["val"])

    def test_copies_in_both_splits_are_reported(self, root):
        for split in ("train", "val"):
            make(root, image=f"{split}/images/{{}}.png", label=f"{split}/labels/{{}}.png", names=split)
            for seed, name in enumerate(split):
                save(root / f"{split}/images/{name}.png", picture(sum(map(ord, split)) + seed))
        shutil.copy(root / "train/images/t.png", root / "val/images/v.png")
        summary = configure(root, root.parent / "made/my.yml")
        assert summary.report.images == {"train": 5, "val": 3}
        assert any(
            "Validation images that are copies of training images: 1" in n and "val/images/v.png" in n
            for n in summary.notes
        )
        assert [problem.kind for problem in check_config(summary.config).problems] == ["leak"]

    def test_classes_missing_from_a_split_are_reported(self, root):
        labels = [np.where(STRIPES == 2, i % 3, STRIPES).astype(np.uint8) for i in range(6)]
        (make(root, labels) / "classes.txt").write_text("a\nb\nc\nd\n")
        for name, stems in {"train": "abde", "val": "cf"}.items():
            (root / f"{name}.txt").write_text("".join(f"images/{s}.jpg labels/{s}.png\n" for s in stems))
        notes = made(root).notes
        assert "Only validation images have c: scored, but never learned." in notes and "No label has d." in notes

    def test_frames_of_a_video(self, root):
        notes = made(make(root, names=[f"frame_{i:04}" for i in range(12)])).notes
        assert any("frames of a video" in note for note in notes)


class TestRecipe:
    @pytest.mark.parametrize(
        "sizes, crop",
        [
            ([(480, 360)], (352, 256)),
            ([(2048, 1024)], (512, 512)),
            ([(40, 30)], (32, 32)),
            ([(100, 64)], (64, 64)),
            ([(640, 480)] * 20 + [(100, 100)], (480, 352)),
            ([(8000, 6000)] * 5 + [(40, 30)], (512, 512)),
            ([(640, 480), (480, 640)], (352, 352)),
        ],
    )
    def test_crops(self, sizes, crop):
        recipe = recipes.choose(sizes, 100, None, None)
        assert recipe.crop == crop and all(side % 32 == 0 for side in crop)

    def test_schedule(self):
        few, many = (recipes.choose([(480, 360)], images, None, None) for images in (3, 1000))
        assert (few.batch_size, few.iters) == (3, 300) and (many.batch_size, many.iters) == (4, 10000)
        assert many.learning_rate == pytest.approx(0.02)

    def test_class_weights(self, root):
        labels = np.where(np.arange(H)[:, None] < 4, 2, STRIPES % 2).astype(np.uint8)
        summary = made(make(root, labels), class_weights=True)
        weights = summary.recipe.weights
        assert weights[2] == max(weights) and 1.0 in weights
        config = yaml.safe_load(summary.config.read_text())
        assert config["loss"]["types"][0]["weight"] == weights

    def test_class_weights_are_suggested(self):
        counts = np.array([98000, 900, 1000, 0, 100])
        note, *others = recipes.notes_on_weights(counts, ["road", "sky", "car", "never", "sign"])
        assert note.startswith("Classes with less than 1 % of the training pixels (sky, sign): --class_weights")
        assert others == []
        assert recipes.notes_on_weights(counts[[0, 2, 3]], ["road", "car", "never"]) == []

    def test_class_weights_are_suggested_once(self, root):
        rare = STRIPES % 2
        rare[0, :20] = 2
        make(root, [STRIPES % 2] * 5 + [rare])
        assert any("--class_weights" in note for note in made(root).notes)
        shutil.rmtree(root.parent / "made")
        assert not any("--class_weights" in note for note in made(root, class_weights=True).notes)

    @pytest.mark.parametrize("names", ["abcdef", ["a b", "c", "d"]])
    def test_config_builds(self, root, names):
        """PaddleSeg loads the file, builds its parts and reads its data."""
        import paddle
        from paddleseg.cvlibs import Config, SegBuilder

        summary = made(make(root, names=names), class_weights=True)
        config = Config(str(summary.config))
        build = SegBuilder(config)
        sample = build.train_dataset[0]
        assert sample["img"].shape == (3, 32, 32) and sample["label"].shape == (32, 32)
        assert build.val_dataset[0]["img"].shape == (3, H, W)
        build.model.eval()
        assert build.model(paddle.zeros([1, 3, 32, 32]))[0].shape == [1, 3, 32, 32]
        assert build.loss["types"][0].weight == summary.recipe.weights and build.optimizer
        comments = [line for line in summary.config.read_text().splitlines() if "#" in line]
        assert len(comments) > 10
        assert quick_check(config).ok
        assert named_classes(config) == (("0", "1", "2"), ())


class TestArguments:
    def test_existing_files_are_not_overwritten(self, root):
        summary = made(make(root))
        for path in (summary.config, summary.config.with_name("other.yml")):
            with pytest.raises(InputError, match="exists"):
                configure(root, path, summary.folder)

    def test_configurations_end_in_yml(self, root):
        with pytest.raises(InputError, match="must end in .yml"):
            configure(make(root), root.parent / "my.txt")

    def test_config_inside_the_data_folder(self, root, monkeypatch):
        """The data folder itself is the target: its labels are neither changed nor found twice."""
        make(root, np.where(STRIPES == 1, 255, 0).astype(np.uint8))
        monkeypatch.chdir(root)
        before = (root / "labels/a.png").read_bytes()
        first, second = (configure(".", f"{name}.yml") for name in ("one", "two"))
        assert (root / "labels/a.png").read_bytes() == before
        assert first.report.images == second.report.images == {"train": 4, "val": 2}


def test_names_and_colors_in_pictures(root):
    make(root, np.array([(128, 0, 0), (0, 0, 0), (0, 128, 0)], np.uint8)[STRIPES])
    summary = made(root)
    names, colors = named_classes(summary.folder)
    table = painter.palette(len(names), colors)
    assert table[:3].tolist() == [list(color) for color in colors] and table[255].tolist() == [224, 224, 224]
    path = plots.draw_labels(root.parent / "preview.png", summary.pairs["train"], names, colors)
    drawn = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert {(128, 0, 0), (0, 128, 0), (0, 0, 0)} <= set(map(tuple, drawn.tolist()))


def test_names_of_a_folder(tmp_path):
    assert named_classes(tmp_path) == ((), ()) and named_classes(None, 2) == (("0", "1"), ())
    (tmp_path / "classes.txt").write_text("sky\ntraffic light\n")
    assert named_classes(tmp_path, 3) == (("sky", "traffic light", "2"), ())
    (tmp_path / "colors.txt").write_text("sky 1 2 3\ntraffic light 4 5 6\n")
    assert named_classes(tmp_path) == (("sky", "traffic light"), ((1, 2, 3), (4, 5, 6)))


def test_palette_of_voc():
    assert tables.voc_colors(21)[1] == (128, 0, 0) and tables.voc_colors(21)[20] == (0, 64, 128)
    assert (painter.palette(20)[:20] == np.array(tables.voc_colors(21)[1:])).all()  # PaddleSeg's, which starts at 1


@pytest.mark.slow
def test_real_camvid(camvid, root):
    """Thirty scenes with the data set's own color labels."""
    from bisenetv1_plugin.datasets.prepare import CAMVID_COLORS

    colors = np.zeros((256, 3), np.uint8)
    colors[: len(CAMVID_COLORS)] = [of_class[0] for of_class in CAMVID_COLORS.values()]
    root.mkdir()
    for line in (camvid / "train.txt").read_text().splitlines()[::12][:30]:
        image, label = line.split()
        (root / "images").mkdir(exist_ok=True)
        shutil.copy(camvid / image, root / "images")
        save(root / "labels" / Path(label).name, colors[np.asarray(Image.open(camvid / label))])
    (root / "label_colors.txt").write_text(
        "".join(f"{name} {r} {g} {b}\n" for name, ((r, g, b), *_) in CAMVID_COLORS.items()) + "Void 0 0 0\n"
    )
    summary = made(root)
    assert summary.report.classes == list(CAMVID_COLORS) and summary.converted == 30
    for image, label in summary.pairs["val"]:
        assert (
            np.asarray(Image.open(label)) == np.asarray(Image.open(camvid / f"train/labels/{image.stem}.png"))
        ).all()
