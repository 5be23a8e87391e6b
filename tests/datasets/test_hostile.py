"""User files are not overwritten, nothing hangs, and no label is mixed up: one test per former defect."""

import io
import json
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check.pairs import check_headers, check_pixels
from bisenetv1_plugin.datasets.check.splits import Split
from bisenetv1_plugin.datasets.own import Options, coco_rle, configure, walk
from bisenetv1_plugin.datasets.own.naming import UniqueNames
from bisenetv1_plugin.datasets.prepare import prepare_camvid, prepare_cityscapes
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.errors import InputError

W, H = 48, 40
STRIPES = np.repeat(np.arange(W) // 16, H).reshape(W, H).T.astype(np.uint8)  # thirds of 0, 1, 2
COLORED = np.array([(128, 0, 0), (0, 0, 0), (0, 128, 0)], np.uint8)[STRIPES]


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def make(root, label=STRIPES, names="abcdef", ending="png"):
    for seed, name in enumerate(names):
        save(root / f"images/{name}.jpg", np.full((H, W, 3), seed * 9, np.uint8))
        save(root / f"labels/{name}.{ending}", label)
    return root


def refused(root, **choices):
    with pytest.raises(InputError) as caught:
        configure(root, root.parent / "made/my.yml", None, Options(**choices))
    assert not list((root.parent / "made").glob("*"))
    return str(caught.value)


@pytest.fixture()
def root(tmp_path):
    return tmp_path / "proj" / "data"


def test_labels_outside_of_the_folder_are_not_overwritten(root):
    make(root)
    (root / "lists").mkdir()
    masks = [root.parent / f"masks/{i}.png" for i in range(4)]
    for mask in masks:
        save(mask, COLORED)
    before = [mask.read_bytes() for mask in masks]
    lines = [f"../images/{name}.jpg ../../masks/{i}.png\n" for i, name in enumerate("abcd")]
    (root / "lists/train.txt").write_text("".join(lines[:3]))
    (root / "lists/val.txt").write_text(lines[3])
    summary = configure(root / "lists", root.parent / "made/my.yml")
    assert [mask.read_bytes() for mask in masks] == before and summary.converted == 4
    assert sorted(path.name for path in summary.folder.glob("labels/*")) == [mask.name for mask in masks]


def test_unique_names():
    names = UniqueNames()
    wanted = ["a.png", "a.tif", "A.png", "é.png", "e\u0301.png", "b.png/c.png", "b.bmp", f"{'x' * 255}", "d/a.png"]
    assigned = [str(names.assign(Path(name))) for name in wanted]
    expected = ["a.png", "a.1.png", "A.1.png", "é.png", "e\u0301.1.png", "b.png/c.png", "b.1.png", "label.png"]
    assert assigned[:2] + assigned[3:] == [*expected[:2], *expected[3:], "d/a.png"]
    assert assigned[2].casefold() not in ("a.png", "a.1.png")
    for name in ("../a.png", "/a.png", "a/../../b.png"):
        with pytest.raises(InputError, match="is not the name of a file inside"):
            names.assign(Path(name))


class TestCoco:
    def write(self, root, change=lambda content: None, names=("a.jpg", "a.png", "b.jpg")):
        for name in names:
            save(root / "images" / name, np.zeros((H, W, 3), np.uint8))
        content = {
            "images": [{"id": i, "file_name": n, "width": W, "height": H} for i, n in enumerate(names)],
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "sky"}],
            "annotations": [
                {"image_id": i, "category_id": i % 2 + 1, "segmentation": [[0, 0, 24, 0, 24, 40, 0, 40]], "area": 960}
                for i, _ in enumerate(names)
            ],
        }
        change(content)
        (root / "coco.json").write_text(json.dumps(content))
        return root

    def test_images_with_the_same_label_name(self, root):
        pytest.importorskip("pycocotools")
        summary = configure(self.write(root), root.parent / "made/my.yml")
        pairs = [*summary.pairs["train"], *summary.pairs["val"]]
        values = {image.name: np.asarray(Image.open(label))[0, 0] for image, label in pairs}
        assert values == {"a.jpg": 1, "a.png": 2, "b.jpg": 1} and len({label for _, label in pairs}) == 3

    @pytest.mark.parametrize(
        "where, value, words",
        [
            ("images 0 file_name", "", "images[0].file_name is ''"),
            ("images 0 file_name", 7, "images[0].file_name is 7"),
            ("images 0 file_name", "b.jpg", "images[2] and images[0] are both b.jpg"),
            ("images 1 id", 0, "images[1] and images[0] have the same id, 0"),
            ("images 1 id", None, "images[1].id is missing"),
            ("images 1 width", -5, "images[1].width is -5"),
            ("images 1 width", 10**9, "images[1].width is 1000000000"),
            ("images 1 height", 41, "images[1] is 48x41, its file"),
            ("images 1 height", float("nan"), "NaN is not a number"),
            ("images 1 height", float("inf"), "Infinity is not a number"),
            ("images", {}, "images is an object: it must be a list"),
            ("annotations 1", 5, "annotations[1] is 5: it must be an object"),
            ("annotations", "x", "annotations is 'x': it must be a list"),
            ("annotations 1 image_id", [], "annotations[1].image_id is a list"),
            ("annotations 1 category_id", 9, "annotations[1].category_id is 9, but categories have no such id"),
            ("annotations 1 area", "big", "annotations[1].area is 'big'"),
            ("annotations 1 segmentation", 5, "annotations[1].segmentation is 5"),
            ("annotations 1 segmentation", [[0, 0, 1, 1, 2]], "annotations[1].segmentation[0] is not a polygon"),
            ("annotations 1 segmentation", [[0, 0, 1e9, 0, 9, 9]], "annotations[1].segmentation[0] is not a polygon"),
            ("annotations 1 segmentation", {"size": [9, 9], "counts": [81]}, "annotations[1].segmentation.size"),
            ("annotations 1 segmentation", {"size": [H, W], "counts": [0, 10**6]}, "segmentation.counts do not fit"),
            ("annotations 1 segmentation", {"size": [H, W], "counts": [-1, 2**31]}, "segmentation.counts do not fit"),
            ("annotations 1 segmentation", {"size": [H, W], "counts": "~~~~"}, "segmentation.counts do not fit"),
            ("categories 1 id", 1, "categories[1] has the id 1 of another category, car"),
            ("categories 1 name", None, "categories[1].name is missing"),
        ],
    )
    def test_errors_name_the_key(self, root, where, value, words):
        pytest.importorskip("pycocotools")
        *path, last = [int(word) if word.isdecimal() else word for word in where.split()]

        def change(content):
            for key in path:
                content = content[key]
            content[last] = value

        sentence = refused(self.write(root, change))
        assert words in sentence and "coco.json" in sentence

    @pytest.mark.parametrize("name", ["/etc/hostname", "../a.jpg", "a/../../b.jpg", "x" * 300, "a\0b.jpg"])
    def test_names_outside_the_folder_are_left_out(self, root, name):
        pytest.importorskip("pycocotools")
        self.write(root, lambda content: content["images"][0].update(file_name=name))
        summary = configure(root, root.parent / "made/my.yml")
        assert any("do not exist, left out: 1" in note for note in summary.notes)

    @pytest.mark.parametrize(
        "text, words",
        [
            ('{"images": ' + "[" * 100_000, "nested too deep"),
            ('{"images": [', "coco.json is not valid JSON"),
            ('{"images": ' + "9" * 100_000 + "}", "a number has 100000 digits"),
            ('\ufeff{"images": [], "images": []}', "the key 'images' appears twice"),
        ],
    )
    def test_invalid_json(self, root, text, words):
        self.write(root)
        (root / "coco.json").write_text(text, encoding="utf-8")
        assert words in refused(root)

    def test_panoptic_files_outside_the_folder_are_not_opened(self, root):
        def change(content):
            content["annotations"] = [
                {"image_id": i, "file_name": str(root.parent / "secret.png"), "segments_info": []} for i in range(3)
            ]

        self.write(root, change)
        save(root.parent / "secret.png", COLORED)
        assert "secret.png, which cannot be read (it does not exist)" in refused(root)

    def test_run_lengths_equal_pycocotools(self):
        mask = pytest.importorskip("pycocotools.mask")
        random = np.random.default_rng(0)
        for share in (0, 0.02, 0.5, 1):
            truth = (random.random((H, W)) < share).astype(np.uint8)
            text = mask.encode(np.asfortranarray(truth))["counts"].decode()
            assert (coco_rle.decode("x", {"size": [H, W], "counts": text}, H, W) == truth).all()


class TestNamesOfFiles:
    def test_name_that_is_not_utf8(self, root):
        """OpenCV crashes on such names, so it must not see them."""
        make(root)
        path = os.fsdecode(os.fsencode(root / "images") + b"/\xff.png")
        with open(path, "wb") as file:
            file.write(cv2.imencode(".png", np.zeros((H, W, 3), np.uint8))[1].tobytes())
        assert image_files.decode_file(path).shape == (H, W, 3) and image_files.has_reader(path)
        split = Split([], 3, 255)
        for problems in (check_headers((path, None), split), check_pixels((path, None), split).problems):
            assert [problem.kind for problem in problems] == ["unreadable"]
            assert "\\xff.png is not UTF-8" in problems[0].message and "rename" in problems[0].message
        assert "\\xff.png is not UTF-8" in refused(root)

    def test_names_that_lists_cannot_contain(self, root):
        make(root, COLORED)
        (root / "labels/a.png").rename(root / "labels/a ")
        (root / "train.txt").write_text("images/b.jpg\tlabels/b.png\n")
        (root / "val.txt").write_text("images/a.jpg\tlabels/a.png\n")
        assert "val.txt, line 1" in refused(root)

    def test_the_longest_name(self, root):
        summary = configure(make(root, COLORED, ["a", "b" * 251]), root.parent / "made/my.yml")
        assert summary.converted == 2

    def test_class_names_with_line_breaks(self, root):
        assert "has a line break" in refused(make(root), classes=["a", "b\nc", "d"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
class TestPipes:
    @pytest.mark.parametrize("name", ["images/a.jpg", "labels/a.png"])
    def test_beside_the_pictures(self, root, name):
        (make(root) / name).unlink()
        os.mkfifo(root / name)
        assert f"{name} cannot be read (it is not a regular file" in refused(root)
        summary = configure(root, root.parent / "made/my.yml", None, Options(skip_broken=True))
        assert any(f"cannot be read, left out: 1 ({Path(name).name})" in note for note in summary.notes)

    @pytest.mark.parametrize("name", ["train.txt", "classes.txt", "colors.txt", "_classes.csv"])
    @pytest.mark.parametrize("kind", ["pipe", "device"])
    def test_in_place_of_texts(self, root, name, kind):
        make(root)
        os.mkfifo(root / name) if kind == "pipe" else (root / name).symlink_to("/dev/zero")
        assert f"{name} cannot be read (it is not a regular file" in refused(root)

    def test_unneeded_files_are_not_opened(self, root):
        make(root)
        os.mkfifo(root / "coco.json")
        os.mkfifo(root / "images" / "pipe")
        assert not walk.is_picture(root, Path("images/pipe"))
        configure(root, root.parent / "made/my.yml")

    def test_reading(self, tmp_path):
        os.mkfifo(tmp_path / "a.png")
        for path in (tmp_path / "a.png", "/dev/zero", tmp_path):
            assert (
                image_files.decode_file(path) is None
                and not image_files.is_regular(path)
                and not image_files.has_reader(path)
            )
            with pytest.raises(image_files.READ_ERRORS):
                image_files.header(path)


class TestDeepLabels:
    """16-bit and 32-bit numbers and 16-bit colors never silently become class 0."""

    @pytest.mark.parametrize("value", [2**31 - 1, 2**16, -1, -(2**31)])
    def test_of_32_bits(self, root, value):
        make(root, np.where(STRIPES == 1, value, STRIPES.astype(np.int64)).astype(np.int32), ending="tif")
        assert f"contains the value {value} (640 pixels), but classes are 0..254" in refused(root, keep_rare=True)
        assert "classes are 0..254" in refused(root, classes=["a", "b", "c"])

    def test_unsigned_32_bits(self, root):
        """Pillow reads unsigned 32-bit numbers as signed ones."""
        make(root, np.where(STRIPES == 1, -1, STRIPES.astype(np.int32)), ending="tif")
        for path in root.glob("labels/*"):
            assert path.read_bytes().count(struct.pack("<HHIHH", 339, 3, 1, 2, 0)) == 1
            path.write_bytes(
                path.read_bytes().replace(
                    struct.pack("<HHIHH", 339, 3, 1, 2, 0), struct.pack("<HHIHH", 339, 3, 1, 1, 0)
                )
            )
        assert "labels/" in refused(root, keep_rare=True)

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_colors_of_16_bits(self, root, ending):
        """Pillow keeps the upper 8 bits, so 1 would be 0."""
        make(root)
        for path in list(root.glob("labels/*")):
            path.unlink()
            deep = np.repeat(STRIPES[..., None], 3, axis=2).astype(np.uint16)
            path.with_suffix(f".{ending}").write_bytes(cv2.imencode(f".{ending}", deep)[1].tobytes())
        assert "with 16 bits per channel: save class numbers as 8-bit PNG" in refused(root, keep_rare=True)


@pytest.mark.parametrize("kind", ["colors", "numbers"])
def test_photographs_as_labels_do_not_fill_the_memory(root, kind):
    random = np.random.default_rng(0).integers(0, 2**31, (300, 300), np.int32)
    make(root, random if kind == "numbers" else random.view(np.uint8).reshape(300, 300, 4)[..., :3], ending="tif")
    assert "has more than 65536 values or colors" in refused(root)


class TestTextFiles:
    @pytest.mark.parametrize("name", ["train.txt", "classes.txt", "class_dict.csv", "label_colors.txt", "_classes.csv"])
    @pytest.mark.parametrize(
        "content, words",
        [
            (b"caf\xe9 1 2 3\n", "is not UTF-8 text (byte 3 is 0xe9)"),
            (b"a 1 2 3\nb\0c 4 5 6\n", "line 2 has a NUL in it"),
            (b"x" * 10_000_000, "line 1 has 10000000 characters"),
            ("a 1 2 3\n".encode("utf-16"), "is not UTF-8 text"),
        ],
    )
    def test_invalid_text(self, root, name, content, words):
        (make(root, COLORED) / name).write_bytes(content)
        sentence = refused(root)
        assert name in sentence and words in sentence and len(sentence) < 500

    @pytest.mark.parametrize(
        "content", [b"0, a\n1 b\n2, c\n", b"0, a\n0, b\n1, c\n", b"0, a\n2, c\n", b"Value, Class\n"]
    )
    def test_names_by_value(self, root, content):
        (make(root) / "_classes.csv").write_bytes(content)
        assert "_classes.csv" in refused(root)

    def test_a_million_lines(self, root):
        make(root)
        (root / "train.txt").write_text("images/a.jpg labels/a.png\n" + "x y\n" * 1_000_000)
        (root / "val.txt").write_text("images/b.jpg labels/b.png\n")
        assert "train.txt, line 2: 'x y' does not name an existing image" in refused(root)


class TestPreparations:
    def cityscapes(self, src):
        for split in ("train", "val"):
            save(src / f"leftImg8bit/{split}/x/x_0_leftImg8bit.png", np.zeros((H, W, 3), np.uint8))
            save(src / f"gtFine/{split}/x/x_0_gtFine_labelIds.png", STRIPES + 7)
        return src

    @pytest.mark.parametrize("name", ["train.txt", "val.txt", "classes.txt"])
    def test_user_lists_are_kept(self, tmp_path, name):
        src = self.cityscapes(tmp_path)
        (src / name).write_text("mine\n")
        with pytest.raises(InputError, match=f"{name} exists with other content"):
            prepare_cityscapes(src)
        assert (src / name).read_text() == "mine\n" and not list(src.rglob("*TrainIds*"))
        (src / name).unlink()
        prepare_cityscapes(src)
        prepare_cityscapes(src)  # what is the same may stay

    def test_links_out_of_the_folder(self, tmp_path):
        src = self.cityscapes(tmp_path / "src")
        (src / "train.txt").symlink_to(tmp_path / "elsewhere.txt")
        with pytest.raises(InputError, match="train.txt exists"):
            prepare_cityscapes(src)
        assert not (tmp_path / "elsewhere.txt").exists()

    def test_existing_train_ids_are_kept(self, tmp_path):
        src = self.cityscapes(tmp_path)
        path = src / "gtFine/train/x/x_0_gtFine_labelTrainIds.png"
        save(path, STRIPES)
        before = path.read_bytes()
        prepare_cityscapes(src)
        assert path.read_bytes() == before

    def test_camvid_with_two_images_of_one_frame(self, tmp_path):
        for split in ("train", "val"):
            for name in ("a.png", "a_L.png"):
                save(tmp_path / f"src/{split}/{split}{name}", np.zeros((H, W, 3), np.uint8))
            save(tmp_path / f"src/{split}annot/{split}a.png", STRIPES)
        with pytest.raises(ValueError, match=r"traina\.png and .*traina_L\.png belong to the same frame"):
            prepare_camvid(tmp_path / "src", tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_names_with_spaces(self, tmp_path):
        src = self.cityscapes(tmp_path)
        for folder in ("leftImg8bit/train/x", "gtFine/train/x"):
            (src / folder).rename(src / folder.replace("/x", "/x y"))
        with pytest.raises(ValueError, match="has a space in it"):
            prepare_cityscapes(src)
        assert not list(src.rglob("*TrainIds*"))

    def test_through_a_link(self, tmp_path):
        """The link's target is filled, and the link is kept."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        write_scenes(str(tmp_path / "link"), 1, 1, (32, 16))
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real/train.txt").is_file()
        (tmp_path / "config").mkdir()
        (tmp_path / "config/my_data").symlink_to("../other")
        (tmp_path / "other").mkdir()
        summary = configure(make(tmp_path / "data"), tmp_path / "config/my.yml")
        assert (tmp_path / "config/my_data").is_symlink() and summary.folder == (tmp_path / "other").resolve()

    @pytest.mark.parametrize("what", ["folder", "link", "device", "pipe"])
    def test_existing_configuration(self, tmp_path, what):
        config = tmp_path / "my.yml"
        {
            "folder": config.mkdir,
            "link": lambda: config.symlink_to(make(tmp_path / "data") / "images/a.jpg"),
            "device": lambda: config.symlink_to("/dev/null"),
            "pipe": lambda: os.mkfifo(config),
        }[what]()
        with pytest.raises(InputError, match="my.yml exists"):
            configure(make(tmp_path / "data"), config)

    def test_another_temporary_folder_is_kept(self, tmp_path):
        make(tmp_path / "data")
        other = tmp_path / f".my_data.{os.getpid()}.part"
        (other / "kept").mkdir(parents=True)
        configure(tmp_path / "data", tmp_path / "my.yml")
        assert (other / "kept").is_dir()

    @pytest.mark.parametrize("size, train", [((10**6, 10**6), 1), ((32, 32), 10**12)])
    def test_scenes_that_fill_the_memory(self, tmp_path, size, train):
        with pytest.raises(ValueError, match="size is|train is"):
            write_scenes(str(tmp_path / "new"), train, 1, size)


def test_decoding_equals_imread(tmp_path):
    """By content, with the EXIF orientation, for every format that both write."""
    random = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for format in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "DIB", "TGA", "PCX"):
        content = io.BytesIO()
        Image.fromarray(random).save(content, format, exif=exif)
        path = tmp_path / format
        path.write_bytes(content.getvalue())
        assert image_files.has_reader(path) == cv2.haveImageReader(str(path)), format
        for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED, cv2.IMREAD_REDUCED_COLOR_4):
            ours, theirs = image_files.decode_file(path, flags), cv2.imread(str(path), flags)
            if theirs is None and format == "TIFF" and cv2.__version__.startswith("5."):
                continue  # 5.0.0 gives no picture of a turned TIFF's path, though it does of its bytes
            assert (ours is None and theirs is None) or (ours == theirs).all(), format
