"""`infer --ray`: the masks of plain `infer`, even if processes are killed."""

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_network import infer

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import ray_pool
from bisenetv1_plugin.inference.sources import Pictures

# Not importorskip, because the import is slow.
needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="pip install '.[ray]'")
COUNT = 600  # pictures, which keep two actors busy for some seconds


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--ray", "--precision", "auto"], "--ray: with --precision auto, each engine could choose another precision"),
        (
            ["--ray", "--use_trt", "True", "--enable_auto_tune", "True"],
            "--enable_auto_tune, all engines would write the same file",
        ),
        (["--ray", "--save_dir", "s3://bucket/masks"], "it must be a folder that all machines share"),
        (["--actors", "2"], "--actors needs --ray"),
    ],
)
def test_invalid_flags(dynamic, small, tmp_path, capsys, flags, sentence):
    assert infer(dynamic, small, tmp_path / "out", *flags) == 2
    assert sentence in capsys.readouterr().err


def test_ray_is_not_installed(dynamic, small, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert infer(dynamic, small, tmp_path / "out", "--ray") == 2
    assert "This needs the package ray: pip install '.[ray]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def photos(small, dynamic, tmp_path_factory):
    """A folder of copies of a few pictures, and the masks of plain `infer` for these few."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    pictures = sorted(small.images.iterdir())
    for number in range(COUNT):
        shutil.copyfile(pictures[number % len(pictures)], folder / "photos" / f"{number:04}.png")
    assert infer(dynamic, small, folder / "plain") == 0
    return folder


@pytest.fixture
def start(dynamic):
    """Start `infer --ray` on this machine; processes that still run at the end are killed."""
    started = []

    def start(folder, out, *flags, cwd=None):
        argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", folder, "--save_dir", out, "--ray"]
        # Not `-m`, which imports from the current folder.
        command = [Path(sys.executable).with_name("bisenetv1"), *map(str, [*argv, *flags])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": "local"}, cwd=cwd, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_masks(process, out, count):
    until = time.monotonic() + 120
    while len(list(out.glob("[0-9]*.png"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def descendants(pid):
    """The child processes of a process, with their command lines."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has ended
    below, new = set(), {pid}
    while new:
        below |= new
        new = {child for child, parent in found.items() if parent in new}
    return below - {pid}


def actors(pid):
    return [child for child in descendants(pid) if b"ray::MapWorker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def assert_masks(photos, out, names):
    plain = sorted((photos / "plain").glob("*.png"))
    for folder in ("", "color"):
        expected = [(photos / "plain" / folder / path.name).read_bytes() for path in plain]
        for name in names:
            assert (out / folder / f"{name}.png").read_bytes() == expected[int(name) % len(plain)], name


@needs_ray
@pytest.mark.very_slow
def test_killed_actor(start, photos, tmp_path):
    """One picture is unreadable too: it is reported as by plain `infer`, and all others are segmented in order.

    Nobody imports what lies in the current folder, which Ray has its processes do.
    """
    out, broken = tmp_path / "out", photos / "photos" / "0005.png"
    (tmp_path / "cv2.py").write_text("raise SystemExit('imported from the current folder')")
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    try:
        flags = ["--save_masks", "True", "--save_regions", "coco", "--json", tmp_path / "a.json"]
        process = start(photos / "photos", out, *flags, cwd=tmp_path)
        wait_for_masks(process, out, 50)
        os.kill(actors(process.pid)[0], signal.SIGKILL)
        said, errors = process.communicate(timeout=300)
    finally:
        broken.write_bytes(whole)
    assert process.returncode == 1, errors
    (fault,) = [line for line in errors.splitlines() if not line.startswith("infer: ")]
    assert fault.startswith(f"bisenetv1: {broken} cannot be read and was left out (")
    names = [f"{number:04}" for number in range(COUNT) if number != 5]
    assert_masks(photos, out, names)
    figures = json.loads((tmp_path / "a.json").read_text())
    assert [image["name"] for image in figures["images"]] == names and len(figures["faults"]) == 1
    assert figures["actors"] >= 1 and figures["cpu_threads"] == 1 and "actors, 1 threads each" in said
    regions = json.loads((out / "regions.json").read_text())
    assert [image["file_name"] for image in regions["images"]] == [f"{name}.png" for name in names]
    assert len({annotation["id"] for annotation in regions["annotations"]}) == len(regions["annotations"])


@needs_ray
@pytest.mark.very_slow
def test_killed_command_resumes(start, photos, tmp_path):
    """The second run gets the folder as an address for PyArrow."""
    out = tmp_path / "out"
    process = start(photos / "photos", out)
    wait_for_masks(process, out, 50)
    below = actors(process.pid)
    process.kill()
    process.communicate()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < until, "its actors run on"
        time.sleep(0.1)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[0-9]*.png")}
    done = [name for name in before if (out / "color" / name).exists()]
    process = start((photos / "photos").as_uri(), out, "--skip_existing", "--json", tmp_path / "a.json")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"{len(done)} of {COUNT} are done already" in said
    assert_masks(photos, out, [f"{number:04}" for number in range(COUNT)])
    assert all((out / name).stat().st_mtime_ns == before[name] for name in done)
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["skipped"] == len(done) and len(figures["images"]) == COUNT - len(done)


class Calls:
    """The handle of an actor without Ray: `method.remote(...)` returns the result at once."""

    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self._target, name))


def test_picture_that_kills_its_process_is_skipped(monkeypatch, tmp_path):
    """For example by using too much memory; Ray repeats its portion in a new process each time."""
    monkeypatch.setattr(ray_pool, "optional_library", lambda *_: SimpleNamespace(get=lambda result: result))
    attempts, segmented = Calls(ray_pool._Attempts()), []

    def segment(pictures):
        for name in pictures.names():
            if name == "deadly\udcff":
                raise SystemExit
            segmented.append(name)
        return {}

    names = ["a", "deadly\udcff", "b"]
    batch = {"picture": [json.dumps((name, f"{name}.png")) for name in names]}
    killed = 0
    while True:
        try:
            worker = ray_pool._Worker(lambda: segment, Pictures({}), attempts, 1)
            answers = [json.loads(text) for text in worker(batch)["answer"]]
            break
        except SystemExit:
            killed += 1
    assert killed == 4 and segmented[-2:] == ["a", "b"]
    assert [answer["faults"][:1] for answer in answers][0::2] == [[], []]
    assert answers[1]["done"] == 1 and "deadly" in answers[1]["faults"][0] and "was killed" in answers[1]["faults"][0]


def test_error_of_an_actor_stops_the_command():
    """For example a full disk: a sentence, not a traceback."""

    def segment(pictures):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "masks/a.png")

    worker = ray_pool._Worker.__new__(ray_pool._Worker)
    worker._segment, worker._template, worker._begin = segment, Pictures({}), lambda *_: True
    (answer,) = (json.loads(text) for text in worker({"picture": [json.dumps(("a", "a.png"))]})["answer"])
    assert answer["stop"].startswith("masks/a.png: no space left on the device; make room there")


def test_invalid_port():
    """The same error as for any other invalid address."""

    def init(*_, **__):
        raise ValueError("Unable to parse port number")

    pool = ray_pool.Pool.__new__(ray_pool.Pool)
    pool._verbose, pool._ray = True, SimpleNamespace(init=init)
    with pytest.raises(InputError, match="--ray host:\u00b2: Ray did not start or did not answer"):
        pool._start("host:\u00b2")


def test_removed_current_folder(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="the current folder was removed: change to another one"):
        ray_pool.absolute_path("deploy.yaml")
