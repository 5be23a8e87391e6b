"""Regions: a mask as polygons and back, here and in the programs that read the files."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from bisenetv1_plugin.cli import main
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import SegmentedPicture
from bisenetv1_plugin.inference.region_files import RegionFiles, geojson, labelme
from bisenetv1_plugin.inference.regions import Region, draw, find
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.sources import Picture
from bisenetv1_plugin.inference.video_writer import VideoWriter

NAMES = ["sky", "road", "car"]


def blobs(seed, size=(80, 100), sigma=2.0):
    """A mask of three classes with regions of all shapes, many with holes or common corners."""
    random = np.random.RandomState(seed)
    fields = random.rand(3, *size).astype("float32")
    if sigma:
        fields = np.stack([cv2.GaussianBlur(field, (0, 0), sigma) for field in fields])
    return fields.argmax(0).astype("uint8")


def lines():
    """Single pixels and lines of one pixel's width: flat, upright, slanted, a ring, and at the border."""
    mask = np.zeros((40, 60), "uint8")
    mask[5, 3:50] = mask[8:30, 4] = mask[39, 10] = mask[0, 59] = 1
    cv2.line(mask, (10, 35), (55, 12), 2)
    cv2.line(mask, (20, 10), (35, 25), 1)
    cv2.circle(mask, (50, 28), 6, 1)
    mask[28, 50] = 2
    return mask


MASKS = {
    "fine": blobs(0, sigma=0),
    "blobs": blobs(1),
    "large": blobs(2, (300, 400), 12),
    "lines": lines(),
    "one row": blobs(3, (1, 50)),
    "one column": blobs(3, (50, 1)),
    "one pixel": np.full((1, 1), 2, "uint8"),
    "checkerboard": (np.indices((30, 31)).sum(0) % 2).astype("uint8"),
}


def iou(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
class TestRoundTrip:
    def test_exact_without_tolerance(self, mask):
        found = find(mask, NAMES, tolerance=0)
        assert sum(region.area for region in found) == mask.size
        np.testing.assert_array_equal(draw(found, *mask.shape), mask)

    def test_close_with_the_default_tolerance(self, mask):
        found = find(mask, NAMES)
        again = draw(found, *mask.shape)
        np.testing.assert_array_equal(draw(found[::-1], *mask.shape), again)
        for number in np.unique(mask):
            assert iou(mask == number, again == number) >= 0.99

    def test_regions_match_flood_fill(self, mask):
        """OpenCV's flood fill, across edges and corners."""
        for region in find(mask, NAMES):
            x, y, width, height = region.box
            seed = (x + int(region.mask[0].argmax()), y)
            flooded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), "uint8")
            area, *_, box = cv2.floodFill(mask.copy(), flooded, seed, 9, flags=8 | cv2.FLOODFILL_MASK_ONLY)
            assert (region.area, region.box, region.number) == (area, box, mask[seed[::-1]])
            inside = flooded[1:-1, 1:-1][y : y + height, x : x + width].astype(bool)
            np.testing.assert_array_equal(region.mask, inside)

    @pytest.mark.parametrize("tolerance", [0, 1, 3])
    def test_polygons_are_valid(self, mask, tolerance):
        geometry = pytest.importorskip("shapely.geometry")
        for region in find(mask, NAMES, tolerance=tolerance):
            shape = geometry.MultiPolygon([(rings[0], rings[1:]) for rings in region.polygons])
            assert shape.is_valid
            if tolerance == 0:
                assert shape.area == region.area
                assert shape.bounds == (*region.box[:2], *np.add(region.box[:2], region.box[2:]))

    def test_labelme_draws_the_same_mask(self, mask):
        """Like its `shapes_to_label`: Pillow draws one shape over the other, with outlines."""
        for tolerance, least in ((0, 1), (1, 0.99)):
            content = labelme(find(mask, NAMES, tolerance=tolerance), "a.png", *mask.shape)
            drawn = Image.new("L", mask.shape[::-1], 255)
            for shape in content["shapes"]:
                assert len(shape["points"]) > 2, "labelme takes no fewer"
                points = list(map(tuple, shape["points"]))
                number = NAMES.index(shape["label"])
                ImageDraw.Draw(drawn).polygon(points, outline=number, fill=number)
            for number in np.unique(mask):
                assert iou(mask == number, np.asarray(drawn) == number) >= least


def test_corners_of_the_outlines():
    mask = np.full((6, 8), 255, "uint8")
    mask[1, 2] = 0
    mask[2:5, 4:7] = 1
    mask[3, 5] = 255
    ring, pixel = find(mask, NAMES)
    assert (ring.name, ring.box, ring.area) == ("road", (4, 2, 3, 3), 8)
    assert [sorted(corners.tolist()) for corners in ring.polygons[0]] == [
        [[4, 2], [4, 5], [7, 2], [7, 5]],
        [[5, 3], [5, 4], [6, 3], [6, 4]],
    ]
    assert [cv2.contourArea(corners, oriented=True) for corners in ring.polygons[0]] == [9, -1]
    assert (pixel.number, pixel.name, pixel.box, pixel.area, pixel.confidence) == (0, "sky", (2, 1, 1, 1), 1, None)
    assert sorted(pixel.polygons[0][0].tolist()) == [[2, 1], [2, 2], [3, 1], [3, 2]]


def test_parts_that_share_a_corner_are_one_region():
    (region,) = find(np.array([[0, 255], [255, 0]], "uint8"), NAMES)
    assert region.area == 2 and len(region.polygons) == 2
    shapes = labelme([region], "a.png", 2, 2)["shapes"]
    assert [shape["group_id"] for shape in shapes] == [0, 0]
    assert labelme(find(np.zeros((2, 2), "uint8"), NAMES), "a.png", 2, 2)["shapes"][0]["group_id"] is None


def test_pixel_belongs_to_the_polygon_with_its_center():
    region = Region(1, "road", (0, 0, 9, 7), np.ones((7, 9), bool), 63)
    corners = np.array([[0, 0], [9, 2], [4, 6]], "int32")
    region.polygons = [[corners]]
    y, x = np.indices((7, 9)) + 0.5
    sides = [(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in zip(corners, np.roll(corners, -1, 0))]
    np.testing.assert_array_equal(draw([region], 7, 9) == 1, np.min(sides, axis=0) > 0)


def test_regions_of_a_segmentation():
    mask = blobs(4)
    confidence = np.random.RandomState(0).rand(*mask.shape).astype("float32")
    picture = np.zeros((*mask.shape, 3), "uint8")
    result = Segmentation(mask, NAMES, np.zeros((3, 3), "uint8"), picture, confidence=confidence)
    found = result.regions(min_area=20)
    assert found and min(region.area for region in found) >= 20
    assert len(found) < len(result.regions())
    for region in found:
        x, y, width, height = region.box
        own = confidence[y : y + height, x : x + width][region.mask]
        assert region.confidence == pytest.approx(own.mean(), abs=1e-6)
    assert f"<{found[0].name}: {found[0].area} pixels in " in repr(found[0])
    outlines = [sum(len(ring) for rings in r.polygons for ring in rings) for r in result.regions(tolerance=0)]
    assert sum(len(ring) for r in result.regions() for rings in r.polygons for ring in rings) < sum(outlines)
    for bad in (
        {"min_area": -1},
        {"min_area": "5"},
        {"min_area": None},
        {"tolerance": float("nan")},
        {"tolerance": float("inf")},
    ):
        with pytest.raises(InputError, match=f"{next(iter(bad))} is .*; it must be a number of pixels, 0 or more"):
            result.regions(**bad)
    confidence[3, 4] = np.nan
    with pytest.raises(InputError, match="the confidence contains NaN"):
        result.regions()


@pytest.mark.slow
def test_no_region_and_many_regions():
    assert find(np.full((5, 5), 255, "uint8"), NAMES) == find(np.empty((0, 0), "uint8"), NAMES) == []
    many = np.zeros((200, 200), "uint8")
    many[::2, ::2] = 1
    found = find(many, NAMES, tolerance=0)
    assert len(found) == 10001
    np.testing.assert_array_equal(draw(found, 200, 200), many)


# --- files ---


def segmented(name, mask, confidence=None):
    return SegmentedPicture(Picture(name, np.zeros((*mask.shape, 3), "uint8")), mask, None, confidence)


def write(kind, folder, masks, tolerance=0.0, min_area=1, confidence=None):
    pictures = {name: str(folder / "photos" / f"{name}.jpg") for name in masks}
    files = RegionFiles(str(folder / "out"), kind, NAMES, pictures, str(folder), min_area, tolerance)
    with files:
        for name, mask in masks.items():
            files.write(segmented(name, mask, confidence))
    return files


def test_labelme_finds_the_picture_through_a_link(tmp_path):
    (tmp_path / "large/disk/out").mkdir(parents=True)
    (tmp_path / "out").symlink_to("large/disk/out")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    write("labelme", tmp_path, {"a": np.zeros((9, 9), "uint8")})
    content = json.loads((tmp_path / "out/regions/a.json").read_text())
    assert (tmp_path / "out/regions" / content["imagePath"]).samefile(tmp_path / "photos/a.jpg")


def test_labelme_keeps_pixels_without_a_class(tmp_path):
    mask = np.zeros((9, 9), "uint8")
    mask[3:6, 3:6] = 255
    files = write("labelme", tmp_path, {"a": mask})
    content = json.loads((tmp_path / "out" / "regions" / "a.json").read_text())
    assert [shape["label"] for shape in content["shapes"]] == ["sky", "__ignore__"]
    middles = [[3.5, 3.5], [3.5, 5.5], [5.5, 3.5], [5.5, 5.5]]
    assert sorted(content["shapes"][1]["points"]) == middles, "of the outermost pixels"
    assert content["imagePath"] == "../../photos/a.jpg" and content["imageData"] is None
    assert (content["imageHeight"], content["imageWidth"]) == (9, 9)
    assert [(region.number, region.area) for region in files.found] == [(0, 72)]


def test_labelme_itself_loads_and_draws_it(tmp_path):
    label_file = pytest.importorskip("labelme._label_file")
    shape = pytest.importorskip("labelme.utils.shape")
    (tmp_path / "photos").mkdir()
    mask = blobs(5)
    Image.fromarray(mask).save(tmp_path / "photos" / "a.jpg")
    write("labelme", tmp_path, {"a": mask})
    loaded = label_file.LabelFile(str(tmp_path / "out" / "regions" / "a.json"))
    numbers = {name: number for number, name in enumerate(NAMES)}
    np.testing.assert_array_equal(shape.shapes_to_label(mask.shape, loaded.shapes, numbers)[0], mask)


def test_coco_is_read_by_pycocotools(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    masks = {name.replace(" ", "_"): mask for name, mask in MASKS.items()}
    write("coco", tmp_path, masks)
    read = coco.COCO(str(tmp_path / "out" / "regions.json"))
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == NAMES
    kinds = set()
    for image in read.loadImgs(read.getImgIds()):
        mask = masks[image["file_name"][len("photos/") : -len(".jpg")]]
        drawn = np.full(mask.shape, 255)
        for annotation in read.loadAnns(read.getAnnIds(image["id"])):
            piece = read.annToMask(annotation).astype(bool)
            assert piece.sum() == annotation["area"] and (drawn[piece] == 255).all()
            rows, columns = np.nonzero(piece)
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            drawn[piece] = annotation["category_id"] - 1  # 0 is no category to CVAT
            kinds.add(type(annotation["segmentation"]))
        np.testing.assert_array_equal(drawn, mask)
    assert kinds == {list, dict}, "polygons, and run lengths where there are holes"


def test_geojson_of_a_region():
    mask = np.full((6, 8), 255, "uint8")
    mask[1:3, 2:6] = 1
    (feature,) = geojson(find(mask, NAMES, np.full((6, 8), 0.25, "float32")))["features"]
    assert feature["bbox"] == [2, 1, 6, 3]
    assert feature["properties"] == {"class": 1, "name": "road", "area": 8, "confidence": 0.25}
    ((first, *others, last),) = feature["geometry"]["coordinates"]
    assert feature["geometry"]["type"] == "Polygon" and first == last
    assert sorted([first, *others]) == [[2, 1], [2, 3], [6, 1], [6, 3]]


def test_geojson_is_valid(tmp_path):
    library = pytest.importorskip("geojson")
    geometry = pytest.importorskip("shapely.geometry")
    mask = blobs(6)
    files = write("geojson", tmp_path, {"a": mask}, tolerance=1)
    content = library.loads((tmp_path / "out" / "regions" / "a.geojson").read_text())
    assert content.is_valid
    areas = dict.fromkeys(NAMES, 0)
    for feature in content.features:
        shape = geometry.shape(feature.geometry)
        assert shape.is_valid
        assert shape.area == pytest.approx(feature.properties["area"], rel=0.02)
        areas[feature.properties["name"]] += feature.properties["area"]
    found = [sum(region.area for region in files.found if region.number == number) for number in range(3)]
    assert list(areas.values()) == found
    assert sum(areas.values()) == mask.size


def test_coco_file_is_complete_or_absent(tmp_path):
    files = RegionFiles(str(tmp_path), "coco", NAMES, {"a": "a.jpg"}, "", 1, 0.0)
    with pytest.raises(KeyboardInterrupt), files:
        files.write(segmented("a", blobs(7)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


# --- the command ---


@pytest.fixture
def photos(tmp_path, small):
    shutil.copytree(small.images, tmp_path / "photos")
    return tmp_path / "photos"


def infer(dynamic, photos, *more):
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", photos, "--save_dir", photos, *more]
    return main([*map(str, argv), "--device", "cpu"])


@pytest.mark.parametrize("kind", ["labelme", "geojson", "coco"])
def test_command(dynamic, photos, kind, capsys):
    figures = photos.parent / "figures.json"
    flags = ["--save_regions", kind, "--min_area", 5, "--json", figures]
    assert infer(dynamic, photos, *flags) == 0 and infer(dynamic, photos, *flags) == 0, "its own results are replaced"
    ending = "geojson" if kind == "geojson" else "json"
    names = [f"regions/{path.stem}.{ending}" for path in sorted(photos.glob("*.png"))]
    names = ["regions.json"] if kind == "coco" else names
    new = [path for path in photos.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert sorted(path.relative_to(photos).as_posix() for path in new) == names
    content = json.loads(new[0].read_text())
    if kind == "labelme":
        assert (new[0].parent / content["imagePath"]).resolve().is_file()
    if kind == "coco":
        assert {image["file_name"] for image in content["images"]} == {path.name for path in photos.glob("*.png")}
        ids = [category["id"] for category in content["categories"]]
        assert ids == list(range(1, len(ids) + 1)), "0 is no category to CVAT"
        assert {annotation["category_id"] for annotation in content["annotations"]} <= set(ids)
    for image in json.loads(figures.read_text())["images"]:
        assert image["regions"] and all(entry["area"] >= 5 * entry["count"] for entry in image["regions"].values())
        shares = {number: entry["area"] / (96 * 64) for number, entry in image["regions"].items()}
        assert all(share <= image["shares"][number] + 1e-6 for number, share in shares.items())
    capsys.readouterr()


@pytest.mark.parametrize("how", ["a label is changed", "saved by a program that keeps what it does not know"])
def test_corrected_regions_are_not_overwritten(dynamic, photos, how, capsys):
    assert infer(dynamic, photos, "--save_regions", "labelme") == 0
    path = sorted((photos / "regions").iterdir())[0]
    text = path.read_text()
    if how == "a label is changed":
        text = text.replace('"flags": {}', '"flags": {"seen": true}', 1)
    else:
        text = json.dumps(json.loads(text), indent=2)
    path.write_text(text)
    assert infer(dynamic, photos, "--save_regions", "labelme") == 2
    assert f"{path} exists, and no earlier run" in capsys.readouterr().err
    assert path.read_text() == text


@pytest.mark.slow
def test_predictions_become_a_dataset(dynamic, photos, small, capsys):
    """The three commands of docs/data.md, with a class corrected in between."""
    config = photos.parent / "new.yml"
    assert infer(dynamic, photos, "--save_regions", "labelme") == 0
    path = sorted((photos / "regions").iterdir())[0]
    content = json.loads(path.read_text())
    content["shapes"][0]["label"] = content["classes"][4]
    path.write_text(json.dumps(content, indent=2))
    assert main(["data", "config", str(photos), "--out", str(config)]) == 0
    label = np.array(Image.open(photos.parent / "new_data" / "labels" / f"{path.stem}.png"))
    x, y = np.array(content["shapes"][0]["points"]).astype(int)[0]
    assert label.shape == (64, 96) and label[y, x] == 4
    names = (photos.parent / "new_data" / "classes.txt").read_text().split("\n")
    assert names[:5] == content["classes"]
    flags = ["--iters", "1", "--device", "cpu", "--save_dir", str(photos.parent / "out")]
    assert main(["train", "--config", str(config), *flags, "--opts", f"model.pretrained={small.weights}"]) == 0
    capsys.readouterr()


def test_invalid_flags(dynamic, photos, tmp_path, capsys):
    assert infer(dynamic, photos, "--min_area", "5") == 2
    assert "--min_area and --tolerance need --save_regions" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        infer(dynamic, photos, "--save_regions", "coco", "--tolerance=-1")
    assert "invalid number of pixels of at least 0 value: '-1'" in capsys.readouterr().err
    pytest.importorskip("av")
    with VideoWriter(str(tmp_path / "drive.mp4"), 5) as video:
        video.write(np.zeros((64, 96, 3), "uint8"), 0)
    assert infer(dynamic, tmp_path / "drive.mp4", "--save_regions", "coco") == 2
    assert "--save_regions is for pictures, and" in capsys.readouterr().err
