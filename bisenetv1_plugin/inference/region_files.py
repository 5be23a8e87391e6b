"""Write regions as files of labelme, COCO or GeoJSON."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Callable, Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from bisenetv1_plugin import files
from bisenetv1_plugin.inference.engine import SegmentedPicture
from bisenetv1_plugin.inference.mask_files import MADE_BY
from bisenetv1_plugin.inference.pyarrow_files import is_address
from bisenetv1_plugin.inference.regions import LEAST_IOU, Region, find, parts, tolerances

KINDS = ("labelme", "coco", "geojson")
IGNORED = "__ignore__"  # labelme's name for pixels of no class
_VERSION = "5.0.0"  # of labelme's format; later versions read it


def path_of(save_dir: str, kind: str, name: str) -> str:
    """The file with the regions of a picture; COCO has one file for all pictures."""
    if kind == "coco":
        return os.path.join(save_dir, "regions.json")
    return os.path.join(save_dir, "regions", f"{name}.{'json' if kind == 'labelme' else 'geojson'}")


class RegionFiles:
    """Writes the regions of masks. COCO's file needs a `with` block, whose end finishes the file.

    Args:
        save_dir: the folder for the files, see `path_of`.
        kind: one of `KINDS`.
        classes: the names of the classes, by number.
        pictures: the paths of the pictures, by their names.
        root: the folder that COCO's paths of pictures are relative to.
        min_area, tolerance: see `regions.find`.

    Attributes:
        place (str): the folder or file of the regions.
        found (list[Region]): the regions of classes in the last picture.
        entries (list[dict]): COCO's entry for each picture, collected outside a `with` block; see `add`.
    """

    def __init__(
        self,
        save_dir: str,
        kind: str,
        classes: Sequence[str],
        pictures: Mapping[str, str],
        root: str,
        min_area: int,
        tolerance: float,
    ) -> None:
        self._save_dir, self._kind, self._classes = save_dir, kind, list(classes)
        self._pictures, self._root = pictures, root
        self._min_area, self._tolerance = min_area, tolerance
        self.place = path_of(save_dir, kind, "") if kind == "coco" else os.path.join(save_dir, "regions")
        self.entries: list[dict[str, Any]] = []
        self._open = ExitStack()
        self._add: Callable[[dict[str, Any]], object] = self.entries.append
        self.found: list[Region] = []

    def write(self, segmented: SegmentedPicture) -> None:
        """Write the regions of a picture.

        Raises:
            OSError: a file cannot be written; it is not there then.
        """
        names, name, mask = self._classes, segmented.picture.name, segmented.mask
        if self._kind == "labelme":  # shapes overlap there, so pixels without a class need a shape
            names = names + [IGNORED] * (256 - len(names))
        found = find(mask, names, segmented.confidence, self._min_area, self._tolerance)
        self.found = [region for region in found if region.number < len(self._classes)]
        path = path_of(self._save_dir, self._kind, name)
        if self._kind == "coco":
            self.add([_coco_entry(_relative(self._pictures[name], self._root), found, *mask.shape)])
        elif self._kind == "labelme":
            picture = _relative(self._pictures[name], os.path.dirname(path))
            content = labelme(found, picture, *mask.shape)
            if len(self._classes) < 256:  # so that labels made of it have the same class numbers
                content["classes"] = self._classes
            files.write(path, _json(content), MADE_BY)
        else:
            files.write(path, _json(geojson(found)), MADE_BY)

    def add(self, entries: Iterable[dict[str, Any]]) -> None:
        """Add the `entries` of another `RegionFiles` to COCO's file."""
        for entry in entries:
            self._add(entry)

    def __enter__(self) -> RegionFiles:
        if self._kind == "coco":
            self._add = self._open.enter_context(_coco_file(self.place, self._classes)).add
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)


def labelme(regions: Iterable[Region], picture: str, height: int, width: int) -> dict[str, Any]:
    """The content of labelme's file for a picture; `picture` is relative to the file's folder.

    labelme's polygons go through the centers of the outermost pixels, which belong to the polygon, and have no holes: a
    later shape covers an earlier one. So outlines are drawn here as labelme's `shapes_to_label` draws them.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for group, region in enumerate(regions):
        pieces = list(parts(region.mask))
        for corner, piece in pieces:
            contour = cv2.findContours(piece.view("uint8"), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0][0][:, 0]
            whole = _draw_polygon(contour, piece.shape)
            area = np.count_nonzero(piece)
            for tolerance in tolerances(region.tolerance, area):
                simple = cv2.approxPolyDP(contour, tolerance, True)[:, 0]
                if np.count_nonzero(_draw_polygon(simple, piece.shape) ^ whole) <= area * (1 - LEAST_IOU):
                    contour = simple
                    break
            shape = {
                "label": region.name,
                "points": (_at_least_three(contour) + corner + np.array(region.box[:2]) + 0.5).tolist(),
                "group_id": group if len(pieces) > 1 else None,
                "shape_type": "polygon",
                "flags": {},
            }
            if region.confidence is not None:
                shape["description"] = f"confidence {region.confidence:.4f}"
            found.append((np.count_nonzero(whole), shape))
    shapes = [shape for _, shape in sorted(found, key=lambda one: -one[0])]
    sizes = {"imageHeight": height, "imageWidth": width}
    return {"version": _VERSION, "flags": {}, "shapes": shapes, "imagePath": picture, "imageData": None, **sizes}


def geojson(regions: Iterable[Region]) -> dict[str, Any]:
    """A FeatureCollection; its coordinates are pixels, x to the right and y down."""
    features = []
    for region in regions:
        polygons = [[ring.tolist() + ring[:1].tolist() for ring in rings] for rings in region.polygons]
        several = len(polygons) > 1
        properties: dict[str, Any] = {"class": region.number, "name": region.name, "area": region.area}
        if region.confidence is not None:
            properties["confidence"] = round(region.confidence, 6)
        x, y, width, height = region.box
        features.append(
            {
                "type": "Feature",
                "bbox": [x, y, x + width, y + height],
                "geometry": {
                    "type": "MultiPolygon" if several else "Polygon",
                    "coordinates": polygons if several else polygons[0],
                },
                "properties": properties,
            }
        )
    return {"type": "FeatureCollection", "features": features}


@contextmanager
def _coco_file(path: str, classes: Sequence[str]) -> Iterator[_Coco]:
    """COCO's file for all pictures. Annotations are written as they arrive.

    The id of a category is the class number plus 1, because programs such as CVAT read 0 as no category.
    """
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    with files.whole_file(path, MADE_BY) as temporary, open(
        temporary, "wb"
    ) as file, tempfile.TemporaryFile() as images:
        file.write(b'{"categories": ' + _json(categories) + b',\n"annotations": [')
        yield _Coco(file, images)
        file.write(b'],\n"images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write(b"]}")


class _Coco:
    """Numbers annotations and images, and writes them into one file each."""

    def __init__(self, file: BinaryIO, images: BinaryIO) -> None:
        self._file, self._list = file, images
        self._images = self._annotations = 0

    def add(self, entry: dict[str, Any]) -> None:
        self._images += 1
        self._list.write(b",\n" * (self._images > 1) + _json({"id": self._images, **entry["image"]}))
        for annotation in entry["annotations"]:
            self._annotations += 1
            ids = {"id": self._annotations, "image_id": self._images}
            self._file.write(b",\n" * (self._annotations > 1) + _json({**ids, **annotation}))


def _coco_entry(picture: str, regions: Iterable[Region], height: int, width: int) -> dict[str, Any]:
    """A picture and its annotations for COCO's file, without ids."""
    annotations = []
    for region in regions:
        annotation = {
            "category_id": region.number + 1,
            "segmentation": _segmentation(region, height, width),
            "area": region.area,
            "bbox": list(region.box),
            "iscrowd": 0,
        }
        if region.confidence is not None:
            annotation["score"] = round(region.confidence, 6)
        annotations.append(annotation)
    return {"image": {"file_name": picture, "width": width, "height": height}, "annotations": annotations}


def _segmentation(region: Region, height: int, width: int) -> Any:
    """COCO's polygons, or run lengths by columns if the region has holes, which COCO's polygons cannot have."""
    if all(len(rings) == 1 for rings in region.polygons):
        return [outline.ravel().tolist() for (outline,) in region.polygons]
    x, y = region.box[:2]
    steps = np.diff(np.pad(region.mask.T, ((0, 0), (1, 1))).astype("int8"), axis=1)
    columns, rows = np.nonzero(steps)
    places, counts = np.unique((columns + x) * height + rows + y, return_counts=True)
    edges = np.concatenate(
        [[0], places[counts == 1], [height * width]]
    )  # a place occurs twice where a run continues in the next column
    return {"size": [height, width], "counts": np.diff(edges).tolist()}


def _draw_polygon(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A bool mask of this shape: the polygon and its outline, drawn by Pillow as in labelme."""
    image = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(image).polygon(list(map(tuple, _at_least_three(points).tolist())), fill=1, outline=1)
    return np.asarray(image)


def _at_least_three(points: np.ndarray) -> np.ndarray:
    """The points, with the last one repeated if there are fewer than three."""
    return np.concatenate([points, np.repeat(points[-1:], max(0, 3 - len(points)), 0)])


def _relative(path: str, folder: str) -> str:
    """The path of a picture relative to a folder. If the folder is a link, `..` is relative to its target."""
    if is_address(path) and not is_address(folder):
        return path
    relative = os.path.relpath(path, folder or os.curdir)
    if not files.is_same(os.path.join(folder, relative), path):
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    return relative.replace(os.sep, "/")


def _json(content: Any) -> bytes:
    return json.dumps(content).encode("ascii")
