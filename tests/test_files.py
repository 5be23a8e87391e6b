"""Files that matter are never overwritten, whatever name leads to them."""

import errno
import json
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bisenetv1_plugin import files
from bisenetv1_plugin.cli import results
from bisenetv1_plugin.errors import InputError

PICTURE = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype("uint8")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the user's own `photo.png` to work in."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", PICTURE)
    return tmp_path


def other_name(kind, path):
    """Another name of a file."""
    if kind == "link":
        os.symlink(path, "other.png")
    elif kind == "hard link":
        os.link(path, "other.png")
    elif kind == "folder link":
        os.symlink(".", "folder")
        return f"folder/{path}"
    elif kind == "up":
        return f"not/there/../../{path}"
    else:
        return os.path.abspath(path)
    return "other.png"


@pytest.mark.parametrize("kind", ["link", "hard link", "folder link", "up", "absolute"])
class TestOneFileOfTwoNames:
    def test_inputs_are_not_overwritten(self, here, kind):
        with pytest.raises(InputError, match="it is read: name another place"):
            files.check_outputs([other_name(kind, "photo.png")], ["photo.png"], is_ours=lambda path: True)

    def test_other_files_are_not_overwritten(self, here, kind):
        with pytest.raises(InputError, match="no earlier run of this command made it"):
            files.check_outputs([other_name(kind, "photo.png")], is_ours=files.made_by("infer"))

    def test_two_results_in_one_file_are_refused(self, here, kind):
        names = ["photo.png", other_name(kind, "photo.png")]
        with pytest.raises(InputError, match="would be one file"):
            files.check_outputs(names, is_ours=lambda path: True)

    def test_two_missing_results_in_one_file_are_refused(self, here, kind):
        if kind == "hard link":
            pytest.skip("there is none to a file that is not there")
        with pytest.raises(InputError, match="would be one file"):
            files.check_outputs(["new.png", other_name(kind, "new.png")])


@pytest.mark.parametrize("folder", ["there", "not there"])
def test_a_link_is_asked_about_by_its_own_name(here, folder):
    """By which a report knows its files; `..` before it changes nothing."""
    os.mkdir("there")
    os.symlink("photo.png", "link.png")
    asked = []
    files.check_outputs([f"{folder}/../link.png"], is_ours=lambda path: not asked.append(path))
    assert asked == [str(here / "link.png")]


def test_names_that_differ_in_case(here, monkeypatch):
    files.check_outputs(["a.png", "A.png"])
    monkeypatch.setattr(files, "_folder", lambda path: (path, True))
    with pytest.raises(InputError, match="would be one file"):
        files.check_outputs(["a.png", "A.png"])


def test_targets_that_may_be_written(here):
    files.write("mask.png", cv2.imencode(".png", PICTURE)[1].tobytes(), "infer")
    open("empty.png", "w").close()
    files.check_outputs(
        ["new.png", "new/folder/new.png", "mask.png", "empty.png", "/dev/null", "/dev/stdout"],
        ["photo.png", "not there"],
        files.made_by("infer"),
    )


def test_a_folder_and_a_name_that_is_too_long(here):
    for path, number in (
        (".", errno.EISDIR),
        ("x" * 300, errno.ENAMETOOLONG),
        (f"not there/{'x' * 300}", errno.ENAMETOOLONG),
        ("photo.png/x", errno.ENOTDIR),
    ):
        with pytest.raises(OSError) as caught:
            files.check_outputs([path])
        assert caught.value.errno == number and files.refusal(caught.value).startswith(path)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".ras"])
def test_marked_file_has_the_same_content(here, ending):
    content = cv2.imencode(ending, PICTURE)[1].tobytes()
    path = f"result{ending}"
    files.write(path, content, "infer")
    assert files.made_by("infer")(path) and not files.made_by("predict")(path)
    assert np.array_equal(cv2.imread(path), cv2.imdecode(np.frombuffer(content, "uint8"), cv2.IMREAD_COLOR))
    with Image.open(path) as image:
        image.load()
        assert image.size == (30, 20)
        assert ending != ".png" or image.info["Software"] == "[bisenetv1-plugin infer]"
    # An editor that saves it anew makes it the user's.
    cv2.imwrite(path, cv2.imread(path))
    assert not files.made_by("infer")(path)


class TestLinksAndStreams:
    def test_link_stays_a_link(self, here):
        os.mkdir("elsewhere")
        os.symlink("elsewhere/real.json", "link.json")
        for content in (b"1", b"2"):
            files.write("link.json", content)
            assert os.path.islink("link.json") and Path("elsewhere/real.json").read_bytes() == content
        assert os.listdir("elsewhere") == ["real.json"]

    def test_device_stays_a_device(self, here):
        files.write("/dev/null", b"x")
        assert not os.path.isfile("/dev/null")
        with pytest.raises(OSError) as caught:
            files.write("/dev/full", b"x")
        assert "no space left" in files.refusal(caught.value)

    def test_pipe_gets_the_whole_content(self, here):
        os.mkfifo("pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
        reader.start()
        content = os.urandom(1 << 20)  # more than a pipe holds
        for _ in range(1000):
            try:
                files.write("pipe", content)
                break
            except OSError as error:  # the reader is not there yet
                assert error.errno == errno.ENXIO
        reader.join(10)
        assert got == [content] and not os.path.isfile("pipe")

    def test_pipe_without_a_reader(self, here):
        os.mkfifo("pipe")
        with pytest.raises(OSError) as caught:
            files.write("pipe", b"x")
        assert files.refusal(caught.value) == (
            "pipe: nobody reads from this pipe; start its reader first, or choose a file."
        )

    def test_standard_output_redirected_to_a_file(self, here, python):
        code = "from bisenetv1_plugin.cli import results; results.check('/dev/stdout', 'a'); print('one', flush=True)"
        done = python("-c", f"{code}; results.write('/dev/stdout', [2])")
        assert done.returncode == 0 and done.stdout == "one\n[\n 2\n]", done.stderr


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".", "..", "a/..", "x\0y"])
def test_name_outside_its_folder(here, name):
    with pytest.raises(InputError, match="is not the name of a file inside"):
        files.path_inside("folder", name)


def test_name_inside_its_folder(here):
    assert files.path_inside("folder", "a/../b/..c") == os.path.join("folder", "b", "..c")


class TestJson:
    def test_what_is_ours(self, here):
        for content in ({"faults": [], "images": []}, [{"faults": 1}]):
            results.write("out.json", content)
            results.check("out.json", "faults")

    @pytest.mark.parametrize("content", ['{"mine": 1}', "[]", "[1]", "3", "text", "{" * 100000, '{"faults": '])
    def test_what_is_not(self, here, content):
        (here / "out.json").write_text(content)
        with pytest.raises(InputError, match="out.json exists, and no earlier run"):
            results.check("out.json", "faults")
        assert (here / "out.json").read_text() == content

    def test_what_is_read(self, here):
        (here / "in.json").write_text(json.dumps({"faults": []}))
        os.link("in.json", "out.json")
        with pytest.raises(InputError, match="it is read"):
            results.check("out.json", "faults", ["in.json"])
