"""Exported folders: `deploy.yaml`, the probe, and pictures to segment."""

import io
import os
import shutil

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image, features

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import _opencv_reads
from bisenetv1_plugin.inference import image_arguments as pictures
from bisenetv1_plugin.inference import probe, sources
from bisenetv1_plugin.inference.exported_model import Export

SECONDS = 20

hostile = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 300),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            *("../deploy.yaml", "/etc/passwd", "model.onnx/../..", "", ".", "..", "a/b", "a\0b", "C:\\x", "abc" * 200),
            *("probe.npz", "softmax", "int8", "Normalize", "Compose", "os.system", "\ud800"),
            *([], {}, [[]], [1, 3, -1, -1], [None] * 4, [0, 0, 0, 0], [2**40] * 4, ["a"] * 257, [[0, 0, 256]]),
            *([{"type": "Normalize", "mean": [0.5] * 5}], [{"type": "Normalize", "std": [0, 0, 0]}], [{"type": 3}]),
            *([{"type": "Resize", "target_size": [0, 0]}], [{"type": "Padding", "target_size": [-1, -1]}], [{}]),
            *([{"type": "open", "file": "/etc/passwd"}], [{"type": "Resize", "target_size": {"a": 1}}], ["Normalize"]),
            *([{"type": "LimitLong", "max_long": 0}], [{"type": "ResizeByShort", "short_size": "x"}], [None]),
        ]
    ),
)


@st.composite
def mutations(draw):
    """Changes of a `deploy.yaml`: new values of keys, and cuts, flips and splices of its text."""
    values = draw(st.lists(st.tuples(st.sampled_from(KEYS), hostile), max_size=3))
    edits = draw(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(EDITS)), max_size=draw(st.sampled_from([0, 3]))))
    return values, edits


KEYS = ["model", "params", "onnx", "openvino", "transforms", "input_shape", "output_op", "precision", "classes"]
KEYS += ["colors", "output_dtype", "Deploy", "new"]
EDITS = [
    b"",
    b"\0",
    b"\xff",
    b"!!python/object/apply:os.system ['true']",
    b"&a [*a, *a]",
    b"- - - " * 3000,
    b"{",
    b"\t",
]
EDITS += [b"'", b": ", b"\n", b"[" * 9999, b"<<: *x\n", b"1e999", b".nan", b"Deploy:\n", b"\xef\xbb\xbf", b"%TAG ! a"]


def changed(content, edits):
    """The bytes with some replaced, or cut off."""
    for place, edit in edits:
        at = int(place * len(content))
        content = content[:at] + edit + content[at + len(edit) :] if edit else content[:at]
    return content


@pytest.fixture(scope="module")
def folder(dynamic, tmp_path_factory):
    """An export with empty models, for the tests to change."""
    copy = tmp_path_factory.mktemp("fuzz") / "exported"
    copy.mkdir()
    for path in dynamic.iterdir():
        (copy / path.name).touch()
    shutil.copy(dynamic / "deploy.yaml", copy)
    return copy


def one_sentence(error):
    said = str(error)
    assert said and "\n" not in said and len(said) < 1000, said
    return type(error).__name__


@pytest.fixture(scope="module")
def original(folder):
    return (folder / "deploy.yaml").read_bytes()


def test_it_opens(folder, original):
    (folder / "deploy.yaml").write_bytes(original)
    assert Export(folder / "deploy.yaml").classes


PICTURE = np.random.RandomState(0).randint(0, 255, (7, 9, 3)).astype("uint8")


@given(mutations())
def test_deploy_yaml(fuzz, folder, original, mutation):
    values, edits = mutation
    content = yaml.safe_load(original)
    for key, value in values:
        (content if key == "Deploy" else content["Deploy"] if isinstance(content["Deploy"], dict) else {})[key] = value
    path = folder / "deploy.yaml"
    text = yaml.dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    path.write_bytes(changed(text, edits))
    before = fuzz.contents(folder)
    with fuzz.in_seconds(SECONDS):
        try:
            export = Export(path)
            assert all(os.path.dirname(named) == str(folder) for named in export.files)
            event("opened")
            event(f"prepared {export.preprocess(PICTURE).image.ndim}")
        except InputError as error:
            event(one_sentence(error))
    assert fuzz.contents(folder) == before


BOMB = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}' if n else 'l'] * 9)}]\n" for n in range(9))


@pytest.mark.parametrize(
    "head, key, value, sentence",
    [
        (BOMB, "output_op", "*k8", "it has more than 100000 values with its aliases expanded"),
        (BOMB, "classes", "*k8", "it has more than 100000 values with its aliases expanded"),
        ("", "output_op", "!!int ''", "it is not YAML"),
        ("", "output_op", "!!bool maybe", "it is not YAML"),
        ("", "output_op", "!!timestamp never", "it is not YAML"),
        ("", "output_op", "0x" + "f" * 6000, "output_op is a number too large to be shown"),
        ("", "classes", f"[0x{'f' * 6000}]", "classes is a number too large"),
        ("", "classes", f"[{'x' * 2000}]", "of at most 1000 characters each"),
        ("", "transforms", f"[{{type: ResizeByLong, long_size: 0x{'f' * 6000}}}]", "transforms is a number too large"),
    ],
)
def test_huge_deploy_yaml(fuzz, folder, original, head, key, value, sentence):
    (folder / "deploy.yaml").write_bytes(head.encode() + original + f"\n  {key}: {value}\n".encode())
    with fuzz.in_seconds(SECONDS), pytest.raises(InputError, match=sentence):
        Export(folder / "deploy.yaml")


def test_key_without_a_value(folder, original):
    (folder / "deploy.yaml").write_bytes(original + b"\n  output_op: null\n")
    assert Export(folder / "deploy.yaml").output_op == "argmax"


class Runtime:
    """Gives class 0 everywhere."""

    def run(self, array):
        assert array.dtype == "float32" and array.ndim == 4
        return np.zeros((array.shape[0], *array.shape[2:]), "int32")


@st.composite
def probes(draw):
    """The arrays of a probe's file, valid and invalid."""
    shapes = st.sampled_from([(4,), (1, 4), (64, 96), (1, 64, 96), (3,), (0,), (), (1, 64, 96, 1)])
    kinds = st.sampled_from(["int64", "uint8", "bool", "float64", "U3", "complex64", "uint64"])
    arrays = {
        "shape": np.array([1, 3, 64, 96]),
        "mask": np.zeros((1, 64, 96), "uint8"),
        "clear": np.ones((1, 64, 96), bool),
    }
    for name in draw(st.sets(st.sampled_from([*arrays]))):
        if name == "shape" and draw(st.booleans()):
            arrays[name] = np.array(draw(st.lists(st.integers(-3, 2**62), min_size=4, max_size=4)))
        else:
            arrays[name] = np.zeros(draw(shapes), draw(kinds))
    for name in draw(st.sets(st.sampled_from([*arrays]), max_size=1)):
        del arrays[name]
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    edits = draw(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=draw(st.sampled_from([0, 3]))))
    return changed(file.getvalue(), edits)


@given(probes())
def test_probe(fuzz, tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / probe.NAME
    path.write_bytes(content)
    with fuzz.in_seconds(SECONDS):
        try:
            event(str(probe.is_right(Runtime(), path.parent)))
        except InputError as error:
            event(one_sentence(error))


def encoded():
    """Pictures in common formats, with and without an orientation."""
    found = []
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"):
        for mode in ("RGB", "L", "P", "RGBA", "1", "I;16"):
            file = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            try:
                Image.fromarray(PICTURE).convert("L" if mode == "I;16" else mode).convert(mode).save(
                    file, kind, exif=exif
                )
            except (OSError, ValueError, TypeError):
                continue
            found.append(file.getvalue())
    return found


FILES = encoded()


@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), max_size=4),
    st.sampled_from([".png", ".jpg", ".webp", ".tif", ".bmp"]),
)
def test_pictures(fuzz, tmp_path_factory, content, edits, ending):
    content = changed(content, edits)
    path = str(tmp_path_factory.getbasetemp() / f"picture{ending}")
    with open(path, "wb") as file:
        file.write(content)
    found = []
    with fuzz.in_seconds(SECONDS):
        for given_as in (path, content):
            try:
                found.append(sources.decode(given_as))
                assert found[-1].dtype == "uint8" and found[-1].shape[2:] == (3,) and found[-1].size
            except InputError as error:
                event(one_sentence(error))
                found.append(None)
        assert (found[0] is None) == (found[1] is None)
        if found[0] is not None:
            event("decoded")
            assert np.array_equal(*found)
        try:
            pictures.to_pixels(content)
        except InputError as error:
            one_sentence(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "MPO", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_of_paths_and_bytes(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "AVIF" and not (features.check("avif") and _opencv_reads(kind)):
        pytest.skip("this Pillow or this OpenCV knows no AVIF")
    path = tmp_path / f"picture.{kind.lower()}"
    Image.fromarray(PICTURE).save(path, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(path) as image:
        of_pillow = pictures.to_pixels(image)
    of_path = pictures.to_pixels(path)
    assert of_pillow.shape == of_path.shape == cv2.imread(str(path)).shape
    assert np.abs(of_pillow.astype(int) - of_path).max() <= (8 if kind in ("JPEG", "MPO", "AVIF") else 0)
