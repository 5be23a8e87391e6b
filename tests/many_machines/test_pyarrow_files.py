"""Pictures at addresses for PyArrow, without Ray."""

import re
import shlex
import shutil
import sys
from types import SimpleNamespace

import pytest
from small_network import infer

from bisenetv1_plugin.cli import infer as infer_command
from bisenetv1_plugin.cli import log
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import memory
from bisenetv1_plugin.inference.pyarrow_files import PyArrowFolder, hide_secret, is_address
from bisenetv1_plugin.inference.sources import Source

fs = pytest.importorskip("pyarrow.fs", reason="pip install '.[ray]'")


@pytest.fixture
def photos(small, tmp_path):
    folder = tmp_path / "a folder"
    shutil.copytree(small.images, folder / "below")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    (folder / "broken.JPG").write_text("no picture")
    return folder


def test_folder(photos, small):
    """The same as without `file://`, except that no header is read in advance."""
    there, here = Source(photos.as_uri()), Source(str(small.images))
    assert there.folder == f"file://{photos}" and there.total == 4
    pictures = list(there)
    assert [picture.name for picture in pictures] == here.names()
    assert all((mine.pixels == its.pixels).all() for mine, its in zip(pictures, here))
    (fault,) = there.faults
    assert (
        fault == f"file://{photos}/broken.JPG cannot be read and was left out (it is not an image, despite its name)."
    )


def test_results_are_not_input(photos, small):
    """Otherwise the second run would be refused, because masks have the names of their pictures."""
    shutil.copytree(small.images, photos / "below" / "masks")
    masks = str(photos / "below/../below/masks")
    assert Source(photos.as_uri(), skip=[masks]).names() == Source(str(small.images)).names() + ["broken"]


def test_input_is_not_overwritten(dynamic, photos, capsys):
    """A mask of an earlier run is overwritten, unless it is the input."""
    picture, out = photos / "below" / "00001.png", photos / "masks"
    assert infer(dynamic, SimpleNamespace(images=picture.as_uri()), out) == 0
    mask = out / "00001.png"
    before = mask.read_bytes()
    assert infer(dynamic, SimpleNamespace(images=mask.as_uri()), out) == 2
    assert "would be written, and it is read" in capsys.readouterr().err and mask.read_bytes() == before


@pytest.mark.parametrize(
    "address, shown",
    [
        ("s3://WHO:SECRET@bucket /a.mp4", "s3://bucket /a.mp4"),
        ("s3://WHO:SEC/RET@bucket/a", "s3://bucket/a"),
        ("s3://SECRET@bucket /a@b", "s3://bucket /a@b"),
        ("s3://WHO:8020/SECRET@bucket /a", "s3://bucket /a"),
        ("gs://:SEC:RE@T@bucket /a", "gs://bucket /a"),
        ("abfs://account /a?client_secret=SECRET&tenant_id=b", "abfs://account /a?client_secret=...&tenant_id=b"),
        ("hdfs://host:8020/a @b", "hdfs://host:8020/a @b"),
    ],
)
def test_secret_is_hidden(address, shown, monkeypatch):
    with pytest.raises(InputError, match=f"^{re.escape(f'{shown} cannot be read (Cannot parse URI: {shown!r}')}"):
        Source(address)
    with pytest.raises(InputError, match=f"^there is no {re.escape(shown)}: name an image"):
        Source(address, keep_folders=True)  # as `predict`, which reads no addresses
    words = ["infer", "--image_path", address, f"--image_path={address}"]
    monkeypatch.setattr(sys, "argv", ["bisenetv1", *words])
    hidden = shlex.join(["bisenetv1", "infer", "--image_path", shown, f"--image_path={shown}"])
    assert f"{hidden} (" in log._header()
    monkeypatch.setattr(memory, "shortage", lambda *_: "too large")
    export = SimpleNamespace(output_op="none")
    assert f": {hidden} " in infer_command._shortage(SimpleNamespace(words=words), export, "onnxruntime fp32", 1, 1)


@pytest.mark.parametrize("path", ["a@b:c/d", "x.png?key=1", "http://host:80/a@b", "--opts=a://b:1/c@d"])
def test_other_paths_are_shown_as_they_are(path):
    assert hide_secret(path) == path


def test_image(photos, small):
    (picture,) = Source((photos / "below" / "00001.png").as_uri())
    assert picture.name == "00001" and picture.pixels.shape == (64, 96, 3)
    gone = PyArrowFolder(photos.as_uri())
    with pytest.raises(InputError, match="No such file"):
        gone.read(f"file://{photos}/gone.png")


def test_s3_address(small, monkeypatch):
    """A store without local folders, like a bucket."""
    memory = fs._MockFileSystem()
    memory.create_dir("bucket/photos")
    content = sorted(small.images.iterdir())[0].read_bytes()
    with memory.open_output_stream("bucket/photos/a.png") as file:
        file.write(content)
    from_uri = staticmethod(lambda address: (memory, address.partition("://")[2]))
    monkeypatch.setattr(fs, "FileSystem", type("FileSystem", (), {"from_uri": from_uri}))
    source = Source("s3://bucket/photos")
    assert (
        source.paths_by_name() == {"a": "s3://bucket/photos/a.png"}
        and source.read("s3://bucket/photos/a.png") == content
    )
    with pytest.raises(InputError, match="s3://bucket/none does not exist"):
        Source("s3://bucket/none")
    with pytest.raises(InputError, match="^s3://bucket/none") as said:
        Source("s3://WHO:SECRET@bucket/none")
    assert "SECRET" not in str(said.value)


@pytest.mark.parametrize("address", ["file:///nowhere", "file:///with a space", "s3:///"])
def test_missing_address(address):
    with pytest.raises(InputError, match=f"{address}.* (cannot be read|does not exist)"):
        Source(address)


def test_other_paths_are_not_addresses():
    assert not any(map(is_address, ("street.jpg", "http://host/street.jpg", "C:/file", "s3:/bucket", "")))


def test_two_images_with_the_same_name(photos):
    shutil.copyfile(photos / "below" / "00001.png", photos / "00001.jpg")
    with pytest.raises(InputError, match="would both give 00001.png"):
        Source(photos.as_uri())
