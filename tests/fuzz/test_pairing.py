"""Pairing: whatever folders look like, a picture gets its own label or none, and what is left out is counted.

A truth is drawn first: pictures by split, camera and name, some without a label or without the picture itself. Then it
is laid out in folders as people do it, and found again.
"""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from bisenetv1_plugin.datasets.own import coco, layouts, walk
from bisenetv1_plugin.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")

SPLITS = {"train": ["train", "Training", "train2017"], "val": ["val", "valid", "val2017"], "test": ["test"]}
CAMERAS = ["", "camA", "camB", "camA/night", "night", "x1/camA", "city 1", "rear_l"]
NAMES = ["0000", "0001", "0002", "a b", "ü", "x.v1", "frame.0001", "0001_l", "0000_mask", "train"]
# Images and labels in folders of the same names, but for what images and labels are called
SAME = [
    ("images/{split}/{cam}", "labels/{split}/{cam}"),
    ("{split}/images/{cam}", "{split}/masks/{cam}"),
    ("{cam}/img/{split}", "{cam}/gt/{split}"),
    ("{split}_images/{cam}", "{split}_labels/{cam}"),
    ("{cam}/{split}/images", "annotations/{cam}/{split}"),
    ("JPEGImages/{split}/{cam}", "SegmentationClass/{split}/{cam}"),
    ("{split}/{cam}", "{split}/labels/{cam}"),
    ("data/images/{split}/{cam}", "data/labels/{split}/{cam}"),
    ("top/{split}/{cam}/images", "top/masks/{split}/{cam}"),
]
# Otherwise; with names that are there once
OTHER = [
    ("images/{split}/{cam}", "labels/{split}"),
    ("images/{split}/{cam}", "masks"),
    ("images", "labels/{split}/{cam}"),
    ("images/{split}/{cam}", "labels/{split}/{cam}/seg_raw"),
    ("images/10k/{split}/{cam}", "labels/sem_seg/{split}/{cam}"),
]


def path_of(text):
    """A path without empty parts, never absolute."""
    return os.path.normpath(text.lstrip("/_"))


@st.composite
def truths(draw):
    """A data set: `pairs` of paths, single images, single labels, and the layout."""
    same = draw(st.booleans())
    image_at, label_at = draw(st.sampled_from(SAME if same else OTHER))
    splits = draw(st.sampled_from([[""], ["train", "val"], ["train", "val", "test"]]))
    called = {split: draw(st.sampled_from(SPLITS[split])) for split in splits if split}
    cameras = draw(st.lists(st.sampled_from(CAMERAS), min_size=1, max_size=4, unique=True))
    ending = draw(st.sampled_from(["", "", "_mask", "_L", "-gt", "{image}"]))
    image_ending = draw(st.sampled_from([".jpg", ".png", ".JPG"]))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    truth = SimpleNamespace(same=same, pairs={}, images=set(), labels=set(), split={}, cameras=cameras, names=names)
    for split in splits:
        for camera in cameras:
            for name in names:
                if not same:  # else two would have one label
                    name = f"{split}-{camera.replace('/', '-')}-{name}"
                parts = {"split": called.get(split, ""), "cam": camera}
                image = path_of(f"{image_at.format(**parts)}/{name}{image_ending}")
                end = ending.format(image=image_ending)
                label = path_of(f"{label_at.format(**parts)}/{name}{end}.png")
                state = draw(st.sampled_from(["both", "both", "both", "image", "label", "neither"]))
                if state == "both":
                    truth.pairs[image] = label
                elif state == "image":
                    truth.images.add(image)
                elif state == "label":
                    truth.labels.add(label)
                truth.split[image] = split
    extra = st.sampled_from(["readme.txt", "thumbs/{cam}/{name}.png", "images/notes.json", ".hid/{name}.png", "p.png"])
    truth.extra = {
        path_of(draw(extra).format(cam=draw(st.sampled_from(cameras)), name=draw(st.sampled_from(names))))
        for _ in range(draw(st.integers(0, 3)))
    }
    if not image_at.startswith("{split}/{cam}"):
        return truth
    truth.extra = {path for path in truth.extra if not path.endswith(".png")}  # they would be images
    return truth


@pytest.fixture()
def root(tmp_path):
    return tmp_path / "data"


def lay(root, paths):
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path in paths:
        assert not os.path.isabs(path) and ".." not in path
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def found(root):
    """Pairs of paths by split, and the notes."""
    layout = layouts.find(root, walk.files_under(root))
    pairs = {
        split: [tuple(str(path.relative_to(root)) for path in pair[:2]) for pair in some]
        for split, some in layout.pairs.items()
    }
    return pairs, layout.notes


def count(notes, *words):
    """The number of files in the notes that contain one of the words."""
    numbers = [re.search(r"left out: (\d+)|^(\d+) images (?:of a test|are neither)", note) for note in notes]
    return sum(int(n[1] or n[2]) for n, note in zip(numbers, notes) if n and any(word in note for word in words))


def everything(truth):
    return {*truth.pairs, *truth.pairs.values(), *truth.images, *truth.labels, *truth.extra}


@settings(suppress_health_check=list(HealthCheck))
@given(truth=truths())
def test_folders(truth, root, fuzz):
    lay(root, everything(truth))
    with fuzz.in_seconds(20):
        try:
            pairs, notes = found(root)
        except InputError as error:
            event("refused")
            assert "both belong to" in str(error) or "could have the label" in str(error)
            return
    flat = [pair for some in pairs.values() for pair in some]
    differ = any("have different names" in note for note in notes)
    # An image without a label and a label without an image, such as 0001.jpg and 0001_l.png, are a pair by their names
    endings = {"0001_l", "0000_mask"} & set(truth.names)
    single = {(image, label) for image in truth.images for label in truth.labels} if endings else set()
    wrong = [pair for pair in flat if truth.pairs.get(pair[0]) != pair[1] and pair not in single]
    if wrong:
        # Nothing in the whole folder is a pair as it should be, and what was done instead is said
        assert not truth.pairs and differ, wrong
        event("no right pair at all")
        return
    assert len(flat) == len({image for image, _ in flat})
    for split, some in pairs.items():
        assert all(truth.split[image] == split for image, _ in some if split)
    pictures = [path for path in everything(truth) if Path(path).suffix != ".txt" and ".hid" not in path]
    pictures = [path for path in pictures if Path(path).suffix != ".json"]
    tests = count(notes, "of a test split", "are neither in train nor in val")
    assert 2 * len(flat) + 2 * tests + count(notes, "left out") == len(pictures), notes
    if endings and (single or count(notes, "more than one possible label")):
        event("names that may be endings")
    elif truth.same and truth.pairs:
        event("all found")
        assert len(flat) + tests == len(truth.pairs), notes
    elif flat:
        event("other folders, found")


@settings(suppress_health_check=list(HealthCheck))
@given(truth=truths(), data=st.data())
def test_lists_of_names(truth, root, fuzz, data):
    """Lists name images by any end of their path; each name gives its image, or is reported as unclear or missing."""
    lay(root, everything(truth))
    there = {*truth.pairs, *truth.images}
    listed = {}
    for split in ("train", "val"):
        some = data.draw(st.lists(st.sampled_from(sorted(truth.split)), min_size=1, max_size=6, unique=True))
        lines = {}
        for image in some:
            parts = Path(image).parts
            if len(parts) == 1 and image not in there:
                continue  # its name alone may be another's
            # A name alone means the picture at the top, if there is one
            least = 1 if image in there and "" not in truth.cameras else len(parts)
            end = parts[-data.draw(st.integers(least, len(parts))) :]
            others = [Path(other).parts for other in truth.split if other != image]
            if len(end) > 1 and any(other[-len(end) :] == end for other in others):
                end = parts  # else it is another's whole path, or no one's
            line = "/".join(end)
            line = line if data.draw(st.booleans()) else line[: -len(Path(image).suffix)]
            line = data.draw(st.sampled_from(["", "", "./", "data/", "/"])) + line
            lines[line] = image
        listed[split] = lines
        (root / f"{split}.txt").write_text("\n".join(lines or ["none"]) + "\n", "utf-8")
    with fuzz.in_seconds(20):
        try:
            pairs, notes = found(root)
        except InputError as error:
            event("refused")
            text = str(error)
            assert (
                "both belong to" in text or "could have the label" in text or "does not name an existing image" in text
            )
            return
    if "" in pairs:
        event("nothing for one of the lists")
        return
    if any("have different names" in note for note in notes) and not truth.pairs:
        return
    for split, some in pairs.items():
        assert all(truth.pairs.get(image) == label for image, label in some)
        wanted = set(listed[split].values())
        own = {image for image in truth.split if truth.split[image] == split}
        strangers = [image for image, _ in some if image not in wanted]
        # A name without its folder, which the list's own split has as well, means that one
        assert all(image in own and Path(image).stem in {Path(w).stem for w in wanted} for image in strangers)
        assert len(some) == len(dict(some))
        assert len(some) + count(notes, f"in {split}.txt") == max(1, len(listed[split])), notes
        if some:
            event("found")


@settings(suppress_health_check=list(HealthCheck))
@given(truth=truths())
def test_lists_of_pairs(truth, root):
    lay(root, everything(truth))
    lines = [f"{image}\t{label}" for image, label in sorted(truth.pairs.items())]
    for name, some in (("train", lines[::2]), ("val", lines[1::2])):
        if some:
            (root / f"{name}.txt").write_text("\n".join(some) + "\n", "utf-8")
    pairs, _ = found(root)
    if truth.pairs:
        assert dict(pair for some in pairs.values() for pair in some) == truth.pairs


@st.composite
def panoptic(draw):
    """Images and annotations of one name, each in a folder; by split, as COCO has them."""
    year = draw(st.sampled_from(["", "2017"]))
    images = draw(st.sampled_from(["images/{split}", "{split}", "{split}/images", "photos", "pics", "rgb/{split}"]))
    segments = draw(
        st.sampled_from(["annotations/{json}", "{json}", "masks/{split}", "annotations", "segs/{split}", "{json}/x"])
    )
    at = draw(st.sampled_from(["annotations/{json}.json", "{json}.json"]))
    splits = draw(st.sampled_from([["train"], ["train", "val"]]))
    flat = "split" not in images or "{" not in segments
    number, plan = 0, []
    for split in splits:
        for name in draw(st.lists(st.sampled_from(["0", "1", "2", "a b"]), min_size=1, max_size=3, unique=True)):
            place = draw(st.sampled_from(["", "camA/", "camB/"]))
            number += 1
            name = f"{place}{split}-{name}" if flat else f"{place}{name}"
            state = draw(st.sampled_from(["both", "both", "both", "image", "segments"]))
            plan.append(SimpleNamespace(split=split, name=name, number=number, state=state))
    return SimpleNamespace(plan=plan, images=images, segments=segments, at=at, year=year)


@settings(suppress_health_check=list(HealthCheck))
@given(tree=panoptic())
def test_panoptic(tree, root, fuzz):
    """Image and annotation have one name and one size; the pixels of both say which picture it is."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(root.parent / "drawn", ignore_errors=True)
    root.mkdir()
    numbers = {}
    for split in {one.split for one in tree.plan}:
        json_name = f"panoptic_{split}{tree.year}"
        form = {"split": split + tree.year, "json": json_name}
        some = [one for one in tree.plan if one.split == split]
        content = {
            "images": [{"id": one.number, "file_name": f"{one.name}.png", "width": 4, "height": 4} for one in some],
            "categories": [{"id": one.number, "name": f"c{one.number}"} for one in tree.plan],
            "annotations": [
                {
                    "image_id": one.number,
                    "file_name": f"{one.name}.png",
                    "segments_info": [{"id": one.number, "category_id": one.number}],
                }
                for one in some
            ],
        }
        for one in some:
            for there, folder, pixel in (("segments", tree.segments, one.number), ("image", tree.images, 100)):
                if one.state not in ("both", there):
                    continue
                path = root / folder.format(**form) / f"{one.name}.png"
                assert root in path.parents
                path.parent.mkdir(parents=True, exist_ok=True)
                array = np.zeros((4, 4, 3), np.uint8)
                array[..., 0] = pixel
                Image.fromarray(array).save(path)
                if there == "image":
                    numbers[path] = one.number
        at = root / tree.at.format(**form)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(json.dumps(content))
    files = walk.files_under(root)
    with fuzz.in_seconds(20):
        annotations, faults = coco.find(root, files)
        assert not faults
        try:
            layout, names = coco.write_labels(annotations, root, files, root.parent / "drawn")
        except InputError as error:
            event("refused")
            assert re.search(r"it does not exist|which may be|has none of the segments", str(error)), error
            return
    pairs = [pair for some in layout.pairs.values() for pair in some]
    for pair in pairs:
        assert pair.image in numbers, f"{pair.image} is an annotation"
        assert names[int(np.asarray(Image.open(pair.label))[0, 0])] == f"c{numbers[pair.image]}"
    assert len(pairs) + count(layout.notes, "left out") == len(tree.plan)
    event("all found" if len(pairs) == len(tree.plan) else "some found")
