"""labelme's JSON files become labels as labelme draws them; predictions become labelme files and labels again."""

import base64
import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bisenetv1_plugin.datasets.check import check_config
from bisenetv1_plugin.datasets.own import Options, configure
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import SegmentedPicture
from bisenetv1_plugin.inference.region_files import RegionFiles
from bisenetv1_plugin.inference.sources import Picture, Source

W, H = 48, 40


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def photo(path, seed=0, size=(W, H)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def annotate(path, shapes, picture=None, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": picture or f"{path.stem}.png"}
    content.update({"imageData": None, "imageHeight": H, "imageWidth": W}, **changes)
    path.write_text(json.dumps(content))


HALVES = [shape("sky", [[0, 0], [W, 19]], "rectangle"), shape("road", [[0, 20], [W, 20], [W, H], [0, H]])]


@pytest.fixture
def root(tmp_path):
    """Two pictures whose halves are sky and road, every pixel of them."""
    for seed, name in enumerate("ab"):
        photo(tmp_path / "data" / f"{name}.png", seed)
        annotate(tmp_path / "data" / f"{name}.json", HALVES)
    return tmp_path / "data"


def made(root, **choices):
    """The result of `configure`: names, labels by picture name, notes, and the configuration's text."""
    config = root.parent / "my.yml"
    summary = configure(root, config, None, Options(**choices))
    report = check_config(config)
    assert report.ok, report.to_text()
    labels = {}
    for image, label in [pair for of_split in summary.pairs.values() for pair in of_split]:
        labels[image.stem] = np.array(Image.open(label))
    return SimpleNamespace(
        names=list(summary.report.classes), labels=labels, notes=" ".join(summary.notes), text=config.read_text()
    )


def refused(root, **choices):
    with pytest.raises(InputError) as error:
        made(root, **choices)
    assert not (root.parent / "my.yml").exists() and not (root.parent / "my_data").exists()
    return str(error.value)


def one(root, shapes, **choices):
    """The label of the first picture with these shapes; unlabeled pixels are 255."""
    annotate(root / "a.json", shapes)
    return made(root, unlabeled="ignored", **choices)


class TestShapes:
    def test_halves(self, root):
        found = made(root)
        assert found.names == ["road", "sky"]
        for label in found.labels.values():
            np.testing.assert_array_equal(label, np.repeat([[1], [0]], 20, 0).repeat(W, 1))

    @pytest.mark.parametrize(
        ("kind", "points"), [("rectangle", [[5, 6], [2, 3]]), ("polygon", [[2, 3], [5, 3], [5, 6], [2, 6]])]
    )
    def test_corners_are_inside(self, root, kind, points):
        label = one(root, [shape("road", points, kind)]).labels["a"]
        rows, columns = np.nonzero(label == 0)
        assert len(rows) == 16 and (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 6, 2, 5)
        assert np.count_nonzero(label == 255) == label.size - 16

    def test_circle(self, root):
        label = one(root, [shape("road", [[20, 20], [20, 29]], "circle")]).labels["a"]
        rows, columns = np.nonzero(label == 0)
        assert len(rows) == pytest.approx(np.pi * 9.5**2, rel=0.03)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 29, 11, 29)

    @pytest.mark.parametrize("kind", ["line", "linestrip"])
    def test_lines_have_a_width(self, root, kind):
        found = one(root, [shape("road", [[0, 20], [W - 1, 20]], kind)], line_width=4)
        assert np.count_nonzero(found.labels["a"] == 0) == 4 * W

    def test_later_shapes_cover_earlier_ones(self, root):
        label = one(root, [*HALVES, shape("car", [[10, 10], [20, 30]], "rectangle")]).labels["a"]
        assert (label[10:31, 10:21] == 0).all() and label[9, 15] == 2 and label[31, 15] == 1
        assert set(np.unique(label)) == {0, 1, 2}

    def test_old_files_without_shape_type(self, root):
        """Shapes without a type are polygons, and spaces around names are removed."""
        old = {"label": " road ", "points": [[2, 3], [5, 3], [5, 6], [2, 6]]}
        found = one(root, [old])
        assert found.names == ["road", "sky"] and np.count_nonzero(found.labels["a"] == 0) == 16

    def test_pixels_of_a_mask(self, root):
        ring = np.ones((4, 6), bool)
        ring[1:3, 1:5] = False
        content = BytesIO()
        Image.fromarray(ring).save(content, "PNG")
        mask = base64.b64encode(content.getvalue()).decode()
        label = one(root, [shape("road", [[10, 20], [15, 23]], "mask", mask=mask)]).labels["a"]
        np.testing.assert_array_equal(label[20:24, 10:16] == 0, ring)
        assert np.count_nonzero(label == 0) == ring.sum()

    def test_points_and_corners_outside(self, root):
        found = one(root, [*HALVES, shape("nail", [[3, 3]], "point"), shape("car", [[-9, -9], [3, 3]], "rectangle")])
        assert found.names == ["car", "road", "sky"] and np.count_nonzero(found.labels["a"] == 0) == 16
        assert "1 shapes are points, which have no area" in found.notes
        assert "1 corners of shapes are outside their pictures" in found.notes

    def test_drawing_equals_labelme(self, root):
        theirs = pytest.importorskip("labelme.utils.shape")
        random = np.random.default_rng(1)
        shapes = list(HALVES)
        for kind, count in (("polygon", 7), ("circle", 2), ("line", 2), ("linestrip", 4), ("rectangle", 2)) * 3:
            points = random.uniform(0, 40, (count, 2)).tolist()
            shapes.append(shape(str(random.choice(["car", "tree", "road"])), points, kind))
        found = one(root, shapes)
        numbers = {name: number for number, name in enumerate(found.names)}
        np.testing.assert_array_equal(theirs.shapes_to_label((H, W), shapes, numbers)[0], found.labels["a"])


class TestPixelsWithoutALabel:
    def test_few_are_ignored(self, root):
        annotate(root / "a.json", [*HALVES, shape("__ignore__", [[0, 0], [9, 4]], "rectangle")])
        annotate(root / "b.json", [HALVES[1], shape("sky", [[0, 1], [W, 19]], "rectangle")])
        found = made(root)
        assert found.names == ["road", "sky"]
        assert np.count_nonzero(found.labels["a"] == 255) == 50 and (found.labels["b"][0] == 255).all()
        assert "labelme, pixels without a label are ignored" in found.text.splitlines()[0]
        assert "1.2% of the pixels have no label: they are ignored" in found.notes

    def test_many_are_background(self, root):
        annotate(root / "a.json", [shape("car", [[0, 0], [9, 9]], "rectangle")])
        found = made(root)
        assert found.names == ["background", "car", "road", "sky"]
        assert np.count_nonzero(found.labels["a"] == 0) == W * H - 100
        assert "labelme, pixels without a label are background" in found.text.splitlines()[0]

    def test_existing_background_class(self, root):
        annotate(root / "a.json", [shape("_background_", [[0, 0], [9, 9]], "rectangle")])
        found = made(root)
        assert found.names == ["_background_", "road", "sky"] and (found.labels["a"] == 0).all()

    def test_unlabeled_option(self, root):
        annotate(root / "a.json", HALVES[1:])
        assert (made(root, unlabeled="ignored").labels["a"][:20] == 255).all()

    def test_list_without_background(self, root):
        annotate(root / "a.json", HALVES[1:])
        assert "25.0% of the pixels have no label, but background is not among the classes road, sky" in refused(
            root, classes=["road", "sky"]
        )


class TestNames:
    def test_numeric_names_are_sorted_as_numbers(self, root):
        annotate(root / "a.json", [shape(str(n), [[n, 0], [n, H]], "rectangle") for n in range(W)])
        annotate(root / "b.json", [shape("0", [[0, 0], [W, H]], "rectangle")])
        assert made(root, keep_rare=True).names == list(map(str, range(W)))

    def test_too_many_classes(self, root):
        annotate(root / "a.json", [shape(f"class {n}", [[0, 0], [W, H]], "rectangle") for n in range(254)])
        assert "the labelme files name 256 classes, but a label of one byte has 255: use fewer" in refused(root)

    def test_classes_txt(self, root):
        (root / "classes.txt").write_text("sky\nroad\ncar\n")
        assert made(root).names == ["sky", "road", "car"]

    def test_classes_option(self, root):
        assert made(root, classes=["sky", "road"]).names == ["sky", "road"]

    def test_unlisted_name(self, root):
        assert "shapes[0] is called sky, which is not among the classes road, Sky" in refused(
            root, classes=["road", "Sky"]
        )

    def test_classes_of_the_export(self, root):
        for name in "ab":
            annotate(root / f"{name}.json", HALVES, classes=["tree", "sky", "road"])
        annotate(
            root / "b.json", [*HALVES, shape("bus", [[0, 0], [9, 9]], "rectangle")], classes=["tree", "sky", "road"]
        )
        assert made(root).names == ["tree", "sky", "road", "bus"]


class TestPictures:
    def test_in_another_folder(self, root):
        for name in "ab":
            (root / f"{name}.json").unlink()
            annotate(root / "regions" / f"{name}.json", HALVES, f"..\\{name}.png")
        assert sorted(made(root).labels) == ["a", "b"]

    def test_picture_beside_the_json_is_used(self, root):
        photo(root / "other" / "a.png", 7)
        annotate(root / "a.json", HALVES, "lost/a.png")
        assert "left out: 1 (other/a.png)" in made(root).notes

    def test_ambiguous_picture(self, root):
        for seed, folder in enumerate(("one", "two"), 7):
            photo(root / folder / "z.png", seed)
        annotate(root / "z.json", HALVES)
        assert "z.json: imagePath may be one/z.png or two/z.png: put the picture beside" in refused(root)

    def test_embedded(self, root):
        content = (root / "a.png").read_bytes()
        (root / "a.png").unlink()
        annotate(root / "a.json", HALVES, imageData=base64.b64encode(content).decode())
        made(root)
        assert (root.parent / "my_data" / "images" / "a.png").read_bytes() == content
        assert not (root / "a.png").exists(), "a user's folder is never touched"

    def test_splits_of_folders(self, tmp_path):
        for seed, name in enumerate(["train/a", "train/b", "val/c", "test/d"]):
            photo(tmp_path / "data" / f"{name}.png", seed)
            annotate(tmp_path / "data" / f"{name}.json", HALVES)
        found = made(tmp_path / "data")
        assert sorted(found.labels) == ["a", "b", "c"]
        assert "1 images of a test split are not used" in found.notes
        assert "c.png" in (tmp_path / "my_data" / "val.txt").read_text()
        assert len((tmp_path / "my_data" / "train.txt").read_text().splitlines()) == 2

    def test_test_split_without_a_val_split(self, tmp_path):
        for seed, name in enumerate(["train/a", "train/b", "test/c"]):
            photo(tmp_path / "data" / f"{name}.png", seed)
            annotate(tmp_path / "data" / f"{name}.json", HALVES)
        found = made(tmp_path / "data")
        assert sorted(found.labels) == ["a", "b"]
        assert "1 images of a test split are not used" in found.notes

    def test_other_json_is_ignored(self, root):
        (root / "notes.json").write_text("{not")
        (root / "shapes.json").write_text('{"shapes": 3}')
        assert len(made(root).labels) == 2

    def test_without_a_label(self, root):
        photo(root / "c.png", 3)
        assert "images without a label, left out: 1 (c.png)" in made(root).notes

    def test_label_pictures_come_first(self, root):
        for name in "ab":
            Image.fromarray(np.repeat([[0], [1]], 20, 0).repeat(W, 1).astype("uint8")).save(root / f"{name}_mask.png")
        assert "2 labelme files are not used, because there are label images" in made(root).notes


def cut_off(root):
    path = root / "a.json"
    path.write_text(path.read_text()[:-100])
    return "a.json is not valid JSON"


def names_another(root):
    annotate(root / "a.json", HALVES, "elsewhere/z.png")
    return "a.json: imagePath is 'elsewhere/z.png', but there is no such picture: put it beside the JSON"


def names_one_twice(root):
    annotate(root / "a.json", HALVES, "b.png")
    return "a.json are both of b.png: keep one of them"


def of_another_size(root):
    annotate(root / "a.json", HALVES, imageWidth=64)
    return f"imageWidth and imageHeight are 64 and {H}, but a.png has {W}x{H} pixels: is it another picture?"


def unknown_shape(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [2, 2]], "cuboid")])
    return "shapes[2].shape_type is 'cuboid', which is not one of polygon, rectangle,"


def too_far_outside(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [2e9, 2]], "rectangle")])
    return "shapes[2].points is not a list of [x, y] in pixels of the picture"


def not_a_number(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [float("nan"), 2]], "rectangle")])
    return "a.json is not valid JSON (NaN is not a number)"


def too_few_points(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [2, 2]])])
    return "shapes[2] is a polygon of 2 points, but needs 3"


def no_label(root):
    annotate(root / "a.json", [*HALVES, shape(" ", [[1, 1], [2, 2]], "rectangle")])
    return "shapes[2].label is ' ': it must be the name of a class"


def no_shapes(root):
    annotate(root / "a.json", None)
    return "a.json: shapes is missing: it must be a list"


def broken_embedded_picture(root):
    annotate(root / "a.json", HALVES, "z.png", imageData="nothing!")
    return "its imageData is not base64"


def broken_mask(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [2, 2]], "mask", mask="AAAA")])
    return "shapes[2].mask is not an image: draw it again"


def label_that_orders(root):
    annotate(root / "a.json", [*HALVES, shape("car\x1b]0;mine\x07", [[1, 1], [5, 1], [5, 5]])])
    return "a.json: shapes[2].label is 'car\\x1b]0;mine\\x07': it must be the name of a class, on one line."


def embedded_program(root):
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n%%EOF\n"
    annotate(root / "a.json", HALVES, "z.png", imageData=base64.b64encode(content).decode())
    return "its imageData cannot be read (it is PostScript, which is a program and not a picture)"


def name_of_no_list(root):
    content = base64.b64encode((root / "b.png").read_bytes()).decode()
    annotate(root / "a.json", HALVES, "z\n\ud800.png", imageData=content)
    return "a.json: imagePath is 'z\\n\\ud800.png', which is not a name for a list: correct it."


def mask_of_another_size(root):
    content = BytesIO()
    Image.new("1", (3, 2), 1).save(content, "PNG")
    mask = base64.b64encode(content.getvalue()).decode()
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [2, 2]], "mask", mask=mask)])
    return "shapes[2].mask does not fit the shape (it has 3x2 pixels, not 2x2)"


def too_many_points(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[1, 1], [2, 2], [3, 3]], "circle")])
    return "shapes[2] is a circle of 3 points, but needs 2"


def true_for_a_number(root):
    annotate(root / "a.json", [*HALVES, shape("car", [[True, 1], [2, 2]], "rectangle")])
    return "shapes[2].points is not a list of [x, y] in pixels of the picture"


BROKEN = [
    *(cut_off, names_another, names_one_twice, of_another_size, unknown_shape, too_far_outside, not_a_number),
    *(too_few_points, no_label, no_shapes, broken_embedded_picture, broken_mask),
    *(embedded_program, name_of_no_list, label_that_orders),
    *(mask_of_another_size, too_many_points, true_for_a_number),
]


@pytest.mark.parametrize("breaks", BROKEN)
def test_unusable_files_are_reported_or_left_out(root, breaks):
    photo(root / "c.png", 5)
    annotate(root / "c.json", HALVES)
    sentence = breaks(root)
    said = refused(root)
    assert sentence in said and "\n" not in said and "--skip_broken" in said and said.count(": its imageData") < 2
    found = made(root, skip_broken=True)
    assert len(found.labels) == 2 and "labelme files that cannot be used, left out: 1" in found.notes


# --- from predictions to labels ---


def test_predictions_become_the_same_labels(tmp_path):
    masks, names = {}, ["sky", "road", "car", "tree"]
    for seed, name in enumerate("abc"):
        photo(tmp_path / "data" / f"{name}.png", seed)
        masks[name] = (
            np.random.default_rng(seed).integers(0, 3, (H // 4, W // 4)).astype("uint8").repeat(4, 0).repeat(4, 1)
        )
    masks["a"][8:16, 8:16] = 255
    pictures = Source(str(tmp_path / "data")).paths_by_name()
    with RegionFiles(str(tmp_path / "data"), "labelme", names, pictures, "", 1, 1.0) as files:
        for name, mask in masks.items():
            picture = Picture(name, np.zeros((*mask.shape, 3), "uint8"))
            files.write(SegmentedPicture(picture, mask, None, np.full(mask.shape, 0.5, "float32")))
    found = made(tmp_path / "data")
    assert found.names == names, "the numbers stay"
    for name, mask in masks.items():
        np.testing.assert_array_equal(found.labels[name], mask)
