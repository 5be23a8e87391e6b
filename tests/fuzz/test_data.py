"""Users' data: lists, tables, COCO's annotations, image files and whole folders, mutated from ones that are right.

Whatever is in them, it works or ends in a sentence, and nothing but the new folder and configuration changes.
"""

import copy
import io
import json
import os
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from PIL import Image

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check.pairs import check_headers, check_pixels
from bisenetv1_plugin.datasets.check.splits import Split
from bisenetv1_plugin.datasets.classes import read_classes
from bisenetv1_plugin.datasets.own import census, configure, tables
from bisenetv1_plugin.datasets.own.lists import Pair
from bisenetv1_plugin.datasets.prepare import dataset_files, prepare_camvid, prepare_cityscapes
from bisenetv1_plugin.errors import InputError

W, H = 12, 8
STRIPES = np.repeat(np.arange(W) // 4, H).reshape(W, H).T.astype(np.uint8)  # thirds of 0, 1, 2
COLORS = np.array([(128, 0, 0), (0, 0, 0), (0, 128, 0)], np.uint8)
HOSTILE_NUMBERS = [0, -1, 1, 255, 256, 2**15, 2**31, 2**32, 2**63, 10**30, 1e308, 0.5, True]
HOSTILE_TEXTS = [
    "",
    ".",
    "..",
    "/",
    "../../masks/0.png",
    "/etc/passwd",
    "a/../../b",
    "x" * 300,
    "a\0b",
    "a\nb",
    "\ud800",
]
HOSTILE = [*HOSTILE_NUMBERS, *HOSTILE_TEXTS, None, [], {}, [[]], [{}], {"a": 1}]


def png(array, format="PNG", **options):
    content = io.BytesIO()
    Image.fromarray(array).save(content, format, **options)
    return content.getvalue()


IMAGE, LABEL, COLORED = png(np.arange(W * H * 3, dtype=np.uint8).reshape(H, W, 3)), png(STRIPES), png(COLORS[STRIPES])


@st.composite
def mutated(draw, originals):
    """Bytes of one original: unchanged, or with bytes flipped, cut, doubled, or mixed with another."""
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([1, 1, 2, 4, 16, 10**6])))
        how = draw(st.sampled_from(["replace", "cut", "double", "splice", "insert"]))
        if how == "replace":
            content = content[:start] + draw(st.binary(min_size=end - start, max_size=end - start))[:16] + content[end:]
        elif how == "cut":
            content = content[:start] + content[end:]
        elif how == "double":
            content = content[:end] + content[start:]
        elif how == "splice":
            content = content[:start] + draw(st.sampled_from(originals))[start:]
        else:
            odd = [b"\0", b"\xff", b"\r", b"\n", b"\t", b",", b"..", b"\xef\xbb\xbf", b"9" * 30, b"\xe2\x80\xa8", b"#"]
            content = content[:start] + draw(st.sampled_from(odd)) + content[start:]
    return content


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory, fuzz):
    """Called with a function that fills `proj/data`: makes a configuration of it, and looks that nothing else changed.

    Returns the Summary, or the sentence.
    """
    top = tmp_path_factory.mktemp("sandbox")

    def attempt(fill, outcome=event):
        shutil.rmtree(top)
        (top / "masks").mkdir(parents=True)
        (top / "proj/masks").mkdir(parents=True)
        for place in ("masks/0.png", "proj/masks/0.png", "proj/masks/1.png"):
            (top / place).write_bytes(COLORED)
        root = top / "proj/data"
        root.mkdir()
        fill(root)
        before = fuzz.contents(top)
        try:
            with fuzz.in_seconds(20), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = configure(root, top / "made/my.yml")
        except InputError as error:
            result = str(error)
            assert len(result) < 4000 and result[-1] in ".?", result
        after = fuzz.contents(top)
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        new = [str(top / name) for name in ("made",)]
        assert all(path.startswith(tuple(new)) for path in changed), changed
        if isinstance(result, str):
            assert not changed - set(new)
            outcome("refused")
        else:
            pairs = [pair for of_split in result.pairs.values() for pair in of_split]
            assert len({label for _, label in pairs if result.folder in label.parents}) == sum(
                result.folder in label.parents for _, label in pairs
            )
            for image, label in pairs:
                assert np.asarray(Image.open(label)).ndim == 2 and image.is_file()
            outcome("configured")
        return result

    return attempt


def fill(root, label=COLORED, names="abcd"):
    for folder, content, ending in (("images", IMAGE, "png"), ("labels", label, "png")):
        (root / folder).mkdir()
        for name in names:
            (root / folder / f"{name}.{ending}").write_bytes(content)


# Lists

NAMES = [
    *("images/a.png", "images/b.png", "labels/a.png", "labels/b.png", "../masks/0.png", "../../masks/0.png"),
    *(
        "../data/labels/../labels/a.png",
        "/labels/c.png",
        "images/../images/c.png",
        "labels",
        "..",
        ".",
        "",
        "/etc/passwd",
    ),
    *(
        "images/d.png",
        "labels/d.png",
        "../masks/1.png",
        "/dev/zero",
        "pipe.png",
        "~",
        "x" * 300,
        "a\0b",
        '"',
        "labels/d",
    ),
]
LIST = b"images/a.png labels/a.png\nimages/b.png ../../masks/0.png\nimages/c.png ../masks/0.png\n"


@example([LIST, b"images/d.png ../masks/1.png\n"])
@given(
    st.lists(
        st.one_of(
            mutated([LIST, b"images/d.png,labels/d.png\r\n", b"a\nb\nc\n"]),
            st.lists(
                st.builds("{}{}{}".format, st.sampled_from(NAMES), st.sampled_from(" \t,;"), st.sampled_from(NAMES)),
                max_size=5,
            ).map(lambda lines: "\n".join(lines).encode()),
        ),
        min_size=2,
        max_size=2,
    )
)
def test_lists(sandbox, lists):
    def with_lists(root):
        fill(root)
        os.mkfifo(root / "pipe.png")
        for name, content in zip(("train", "val"), lists):
            (root / f"{name}.txt").write_bytes(content)

    sandbox(with_lists)


def test_labels_of_elsewhere_are_converted_below_the_new_folder(sandbox):
    """Three labels with the same name, two of them outside the data."""

    def with_lists(root):
        fill(root)
        (root / "train.txt").write_bytes(LIST)
        (root / "val.txt").write_bytes(b"images/d.png ../masks/1.png\n")

    summary = sandbox(with_lists, print)
    labels = [label.relative_to(summary.folder).as_posix() for _, label in summary.pairs["train"]]
    assert labels == ["labels/a.png", "labels/0.png", "labels/0.1.png"] and summary.converted == 4


# Tables

TABLES = {
    "class_dict.csv": b"name,r,g,b\nhouse,128,0,0\nvoid,0,0,0\ntree,0,128,0\n",
    "label_colors.txt": b"128 0 0\t\thouse\r\n0 0 0 Void\r\n0 128 0 tree\r\n",
    "labelmap.txt": b"# label:color_rgb:parts:actions\nhouse:128,0,0::\nvoid:0,0,0::\ntree:0,128,0::\n",
    "classes.txt": b"\xef\xbb\xbfhouse\nsky\ntall tree\n",
    "_classes.csv": b"Pixel Value, Class\n0, background\n1, car\n2, sky\n",
}


@given(st.sampled_from(sorted(TABLES)), mutated(list(TABLES.values())))
def test_tables(tmp_path_factory, fuzz, name, content):
    root = tmp_path_factory.getbasetemp() / "tables"
    root.mkdir(exist_ok=True)
    path = root / name
    path.write_bytes(content)
    read = {
        "classes.txt": lambda: read_classes(path),
        "_classes.csv": lambda: tables.names_in_folder(root, [Path(name)]),
    }
    try:
        with fuzz.in_seconds(5):
            found = read.get(name, lambda: tables.read(path))()
    except InputError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
        event("refused")
    else:
        names = found if isinstance(found, list) else found.names
        assert names and all(isinstance(name, str) and name.strip() and "\n" not in name for name in names)
        event("read")
    path.unlink()


# COCO


def coco():
    box, inner = [0, 0, 8, 0, 8, 8, 0, 8], [0.5, 0, 4, 0, 4, 8.0, 0, 8]
    shapes = [[inner], [box, inner], {"size": [H, W], "counts": [60, 10, 26]}, {"size": [H, W], "counts": "0P3"}]
    return {
        "images": [{"id": i, "file_name": f"{n}.png", "width": W, "height": H} for i, n in enumerate("abcd")],
        "categories": [{"id": 7, "name": "car"}, {"id": 3, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": i % 4, "category_id": (3, 7)[i % 2], "segmentation": shape, "area": 10.0}
            for i, shape in enumerate(shapes * 2)
        ],
    }


def panoptic():
    segments = [{"id": 128, "category_id": 7}, {"id": 128 << 8, "category_id": 3}]
    annotations = [{"image_id": i, "file_name": f"{n}.png", "segments_info": segments} for i, n in enumerate("abcd")]
    return {**coco(), "annotations": annotations}


def nodes(value, path=()):
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


@st.composite
def annotations(draw):
    content = draw(st.sampled_from([coco, panoptic]))()
    for _ in range(draw(st.integers(0, 3))):
        *path, last = draw(st.sampled_from([path for path in nodes(content) if path]))
        parent = content
        for key in path:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "copy"]))
        if how == "replace":
            hostile = st.sampled_from([*HOSTILE, "b.png", 3, float("nan"), float("-inf")])
            parent[last] = copy.deepcopy(draw(hostile))
        elif how == "remove":
            del parent[last]
        elif isinstance(parent, list):
            parent.append(json.loads(json.dumps(parent[last])))
    text = json.dumps(content).encode()
    return draw(mutated([text])) if draw(st.integers(0, 3)) == 0 else text


@example(json.dumps(coco()).encode())
@example(json.dumps(panoptic()).encode())
@example(b'{"images": ' + b"[" * 100_000)
@example(b'{"images": ' + b"9" * 1_000_000 + b"}")
@example(b'\xef\xbb\xbf{"images": [], "images": [], "annotations": []}')
@given(annotations())
def test_coco(sandbox, content):
    pytest.importorskip("pycocotools")

    def with_annotations(root):
        (root / "images").mkdir()
        (root / "coco").mkdir()  # no folder of labels: those would come first
        for name in "abcd":
            (root / f"images/{name}.png").write_bytes(IMAGE)
            (root / f"coco/{name}.png").write_bytes(COLORED)
        (root / "coco.json").write_bytes(content)

    sandbox(with_annotations)


# Image files


def pictures():
    random = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.fromarray(STRIPES)
    palette.putpalette(list(range(9)))
    saved = io.BytesIO()
    palette.save(saved, "PNG")
    return [
        *(IMAGE, LABEL, COLORED, saved.getvalue()),
        *(png(random, "JPEG"), png(random, "JPEG", exif=exif), png(random, "PNG", exif=exif), png(random, "BMP")),
        *(png(random, "TIFF"), png(random, "TIFF", compression="tiff_lzw"), png(STRIPES, "TIFF", compression="jpeg")),
        *(
            png(random, "WEBP"),
            png(random, "WEBP", exif=exif),
            png(STRIPES.astype(np.uint16), "PNG"),
            png(random, "PPM"),
        ),
        *(png(STRIPES.astype(np.int32) + 2**20, "TIFF"), png(random, "GIF"), png(STRIPES.astype(np.float32), "TIFF")),
        *(png(random, "JPEG2000"), png(random, "PNG")[:60], b"II*\0\x08\0\0\0", b"", b"P5 1000000 1000000 255\n"),
    ]


@given(mutated(pictures()), mutated(pictures()))
def test_images(tmp_path_factory, fuzz, image, label):
    folder = tmp_path_factory.getbasetemp() / "images"
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in ("image.png", "label.png")]
    for path, content in zip(paths, (image, label)):
        path.write_bytes(content)
    split = Split([], 3, 255)
    with fuzz.in_seconds(20), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair = (str(paths[0]), str(paths[1]))
        headers = check_headers(pair, split)
        problems, counts = check_pixels(pair, split)[:2]
        result = census.inspect_pairs([Pair(*paths)])
        for read in (dataset_files.image_size, lambda path: dataset_files.read_label(path, (W, H))):
            try:
                read(paths[1])
            except ValueError as error:
                assert str(paths[1]) in str(error)
    assert result.usable or result.broken or result.invalid
    for problem in [*headers, *problems, *result.broken, *result.invalid]:
        assert "image.png" in problem.message or "label.png" in problem.message
    event("usable" if result.usable else "refused")
    assert image_files.has_reader(paths[0]) or not result.usable
    assert counts.sum() <= 2**24


# Folders

ODD = [
    "a",
    "-rf",
    "--out",
    "a b",
    "a\nb",
    "a\tb",
    "'",
    '"',
    "$x",
    "%s",
    "{}",
    "é",
    "日本",
    "e\u0301",
    "A",
    "x" * 240,
    ".",
    " ",
]
ODD_BYTES = [*(name.encode() for name in ODD), b"\xff", b"a\xffb", b"\xe9"]
KINDS = ["file", "file", "file", "file", "pipe", "nowhere", "device", "folder", "itself", "text"]


def place(path, content, kind):
    """Creates a file or folder at a path of bytes, if the system allows it."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            os.mkdir(path)
        elif kind in ("nowhere", "device", "itself"):
            os.symlink({"nowhere": b"nowhere", "device": b"/dev/zero", "itself": os.path.basename(path)}[kind], path)
        else:
            with open(path, "xb") as file:
                file.write(b"text" if kind == "text" else content)
    except OSError:
        pass


entries = st.tuples(st.sampled_from(ODD_BYTES), st.sampled_from(KINDS), st.sampled_from(KINDS))


@given(
    st.lists(entries, max_size=3),
    st.sampled_from(["images labels", "JPEGImages SegmentationClass", "one/images two/masks"]),
    st.sampled_from([b".png", b".PNG", b"", b".tif"]),
    st.sampled_from([LABEL, COLORED]),
)
def test_folders(sandbox, found, folders, ending, label):
    images, labels = (folder.encode() for folder in folders.split())

    def with_odd_names(root):
        top = os.fsencode(root)
        odd = [*((name, "file", "file") for name in (b"1", b"2", b"3")), *found]
        for name, kind, other in odd:
            place(os.path.join(top, images, name + ending), IMAGE, kind)
            place(os.path.join(top, labels, name + ending), label, other)

    sandbox(with_odd_names)


@given(st.lists(entries, max_size=3), st.sampled_from(["camvid", "cityscapes"]), st.sampled_from(["new", "same"]))
def test_downloads(tmp_path_factory, fuzz, found, dataset, where):
    top = tmp_path_factory.getbasetemp() / "downloads"
    shutil.rmtree(top, ignore_errors=True)
    src = top / "src"
    odd = [*((name, "file", "file") for name in (b"1", b"2")), *found]
    layouts = {
        "camvid": [("{0}/%s.png", "{0}annot/%s.png")],
        "cityscapes": [("leftImg8bit/{0}/x/%s_leftImg8bit.png", "gtFine/{0}/x/%s_gtFine_labelIds.png")],
    }
    for split in ("train", "val"):
        for image, label in layouts[dataset]:
            for name, kind, other in odd:
                name = name + split.encode()
                place(os.path.join(os.fsencode(src), os.fsencode(image.format(split)) % name), IMAGE, kind)
                place(os.path.join(os.fsencode(src), os.fsencode(label.format(split)) % name), LABEL, other)
    before = fuzz.contents(src)
    function = {"camvid": prepare_camvid, "cityscapes": prepare_cityscapes}[dataset]
    in_place = dataset == "cityscapes" and where == "same"
    try:
        with fuzz.in_seconds(20):
            prepared = function(src, src if in_place else top / "new")
    except (OSError, ValueError) as error:
        assert len(str(error)) > 20
        event("refused")
    else:
        listed = (prepared.root / "train.txt").read_text("utf-8").splitlines()
        assert all(len(line.split(" ")) == 2 for line in listed) and len(listed) == prepared.counts["train"]
        event("prepared")
    after = fuzz.contents(src)
    assert {path: after.get(path) for path in before} == before
    assert in_place or after == before


def test_unmutated(sandbox):
    """The originals of the mutations above work."""
    outcomes = Counter()
    for content in (LABEL, COLORED):
        sandbox(lambda root, content=content: fill(root, content), lambda outcome: outcomes.update([outcome]))
    assert outcomes == {"configured": 2}
