"""Input and output in the same folder: no command changes other files."""

import json
import os
import shutil

import pytest
import yaml
from PIL import Image

from bisenetv1_plugin.cli import main
from bisenetv1_plugin.cli.log import Log


def contents(folder):
    """The bytes of every file in a folder, and the targets of links."""
    found = {}
    for inner, folders, names in os.walk(folder):
        for path in (os.path.join(inner, name) for name in [*folders, *names]):
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = file.read()
    return found


@pytest.fixture
def place(tmp_path, small):
    """Three pictures in a folder `photos`; tests may write beside it."""
    (tmp_path / "photos").mkdir()
    for path in sorted(small.images.iterdir()):
        shutil.copy(path, tmp_path / "photos")
    return tmp_path


def same(place):
    return place / "photos", place / "photos"


def output_inside_input(place):
    return place / "photos", place / "photos" / "out"


def input_inside_output(place):
    return place / "photos", place


def through_a_link(place):
    (place / "link").symlink_to("photos")
    return place / "photos", place / "link"


def hard_links(place):
    """The pictures that have names of results."""
    for folder in ("out", "out/color", "out/overlay", "out/added_prediction", "out/pseudo_color_prediction"):
        (place / folder).mkdir()
        for path in (place / "photos").iterdir():
            os.link(path, place / folder / path.name)
    return place / "photos", place / "out"


def another_users_results(place):
    """Pictures with names of results that no command wrote."""
    for folder in ("out", "out/color", "out/added_prediction"):
        (place / folder).mkdir()
        for path in (place / "photos").iterdir():
            Image.open(path).convert("L").save(place / folder / path.name)
    return place / "photos", place / "out"


PLACES = [same, output_inside_input, input_inside_output, through_a_link, hard_links, another_users_results]
REFUSED = {  # combinations that are refused; `predict` writes into its own folders
    "infer": {same, through_a_link, hard_links, another_users_results},
    "predict": {hard_links, another_users_results},
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("command", ["infer", "predict"])
def test_pictures(command, where, place, small, dynamic, capsys):
    images, save_dir = where(place)
    flags = ["--config", small.config, "--model_path", small.weights]
    if command == "infer":
        flags = ["--config", dynamic / "deploy.yaml", "--overlay"]
    argv = [command, *map(str, [*flags, "--device", "cpu", "--image_path", images, "--save_dir", save_dir])]
    before = contents(place)
    for _ in range(2):  # the second run finds the results of the first
        code = main(argv)
        after = contents(place)
        assert {path: after.get(path) for path in before} == before
        assert code == (2 if where in REFUSED[command] else 0)
        said = capsys.readouterr().err.strip()
        assert not code or (len(said.splitlines()) == 1 and "name another place" in said)
        if code:
            assert after == before
    if not code and command == "infer":
        assert (
            sorted(path.name for path in save_dir.glob("*.png"))
            == sorted(path.name for path in images.iterdir())[: len(list(save_dir.glob("*.png")))]
        )


def test_corrected_results_are_not_overwritten(place, dynamic, capsys):
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", place / "photos", "--save_dir", place / "out"]
    argv = [*map(str, argv), "--device", "cpu"]
    assert main(argv) == 0 and main(argv) == 0
    corrected = place / "out" / "00001.png"
    with Image.open(corrected) as mask:
        mask.load()
    mask.putpixel((0, 0), 3)
    mask.save(corrected)
    content = corrected.read_bytes()
    assert main(argv) == 2 and "00001.png exists, and no earlier run" in capsys.readouterr().err
    assert corrected.read_bytes() == content


def test_results_beside_the_pictures_are_not_input(place, dynamic, capsys):
    """Neither in the folder of the pictures nor in a subfolder of an earlier run."""
    photos = place / "photos"
    for path in photos.glob("*.png"):
        with Image.open(path) as picture:
            picture.convert("RGB").save(path.with_suffix(".jpg"))
        path.unlink()
    argv = ["infer", "--config", str(dynamic / "deploy.yaml"), "--image_path", str(photos), "--device", "cpu"]
    count = len(list(photos.iterdir()))
    for folder in (photos, photos, photos / "again", photos / "once_more"):
        assert main([*argv, "--overlay", "--save_dir", str(folder)]) == 0, capsys.readouterr().err
        assert len(list(folder.glob("*.png"))) == count
    argv[4] = str(photos / "again")
    assert main([*argv, "--save_dir", str(place / "out")]) == 2
    assert "results of these commands do not count" in capsys.readouterr().err


class TestVideo:
    @pytest.fixture
    def video(self, place):
        cv2 = pytest.importorskip("cv2")
        writer = cv2.VideoWriter(str(place / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
        for path in sorted((place / "photos").iterdir()):
            writer.write(cv2.imread(str(path)))
        writer.release()
        return place / "drive.avi"

    def run(self, dynamic, video, *flags):
        argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", video, "--device", "cpu", *flags]
        return main([str(word) for word in argv])

    def test_second_run_replaces_the_video(self, place, video, dynamic):
        for _ in range(2):
            assert self.run(dynamic, video, "--save_dir", place, "--save_video") == 0
            assert self.run(dynamic, video, "--save_dir", place / "out") == 0
        cv2 = pytest.importorskip("cv2")
        assert cv2.VideoCapture(str(place / "drive_overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3

    def test_other_video_is_not_overwritten(self, place, video, dynamic, capsys):
        (place / "drive_overlay.mp4").write_bytes(b"mine")
        assert self.run(dynamic, video, "--save_dir", place, "--save_video") == 2
        assert "drive_overlay.mp4 exists" in capsys.readouterr().err
        assert (place / "drive_overlay.mp4").read_bytes() == b"mine"

    def test_pictures_named_like_frames_are_not_overwritten(self, place, video, dynamic, capsys):
        shutil.copy(place / "photos" / "00000.png", place / "drive_000002.png")
        before = contents(place)
        assert self.run(dynamic, video, "--save_dir", place) == 2
        assert "drive_000002.png exists" in capsys.readouterr().err
        assert contents(place) == before


def in_the_place_of(path, kind):
    """The path itself, or a link to it, or a hard link."""
    other = path.with_name(f"other{path.suffix}")
    if kind == "link":
        other.symlink_to(path.name)
    elif kind == "hard link":
        os.link(path, other)
    return path if kind == "itself" else other


@pytest.mark.parametrize("kind", ["itself", "link", "hard link"])
@pytest.mark.parametrize("command", ["infer", "val", "verify", "benchmark"])
def test_json_does_not_replace_an_input(command, kind, tmp_path, small, dynamic, capsys):
    exported = tmp_path / "exported"
    shutil.copytree(dynamic, exported)
    config = tmp_path / "config.yml"
    shutil.copy(small.config, config)
    flags, read = {
        "infer": (["--config", exported / "deploy.yaml", "--image_path", small.images], exported / "deploy.yaml"),
        "val": (["--config", config, "--model_path", small.weights], config),
        "verify": ([config, small.weights, exported], exported / "model.onnx"),
        "benchmark": ([exported], exported / "model.onnx"),
    }[command]
    before = contents(tmp_path)
    target = in_the_place_of(read, kind)
    argv = [command, *flags, "--json", target, *(["--device", "cpu"] if command != "benchmark" else [])]
    assert main([*map(str, argv)]) == 2
    assert "it is read" in capsys.readouterr().err
    assert before.items() <= contents(tmp_path).items()


class TestExport:
    def run(self, small, save_dir, *flags):
        argv = ["export", "--config", small.config, "--model_path", small.weights, "--save_dir", save_dir, *flags]
        return main([*map(str, argv), "--device", "cpu"])

    @pytest.mark.parametrize("name", ["model.onnx", "deploy.yaml", "probe.npz", "model.pdiparams"])
    def test_other_file_is_not_overwritten(self, name, tmp_path, small, capsys):
        (tmp_path / name).write_text("mine")
        assert self.run(small, tmp_path) == 2
        said = capsys.readouterr().err
        assert f"{name} exists, and no earlier run" in said and "Traceback" not in said
        assert contents(tmp_path) == {str(tmp_path / name): b"mine"}

    def test_earlier_export_is_replaced(self, tmp_path, small, dynamic):
        shutil.copytree(dynamic, tmp_path / "exported")
        assert self.run(small, tmp_path / "exported", "--output_op", "none") == 0
        deploy = yaml.safe_load((tmp_path / "exported" / "deploy.yaml").read_text())["Deploy"]
        assert deploy["output_op"] == "none"

    def test_weights_are_not_overwritten(self, tmp_path, small, dynamic, capsys):
        shutil.copytree(dynamic, tmp_path / "exported")
        shutil.copy(small.weights, tmp_path / "exported" / "model.pdiparams")
        argv = ["export", "--config", small.config, "--model_path", tmp_path / "exported" / "model.pdiparams"]
        before = contents(tmp_path)
        assert main([*map(str, argv), "--save_dir", str(tmp_path / "exported"), "--device", "cpu"]) == 2
        assert "it is read" in capsys.readouterr().err and contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_other_log_is_not_overwritten(kind, tmp_path):
    (tmp_path / "notes").write_text("mine")
    path = tmp_path / "infer.log"
    if kind == "link":
        path.symlink_to("notes")
    else:
        path.write_text("mine")
    log = Log(path)
    log.write("said")
    log.finish(keep=True)
    assert log.fault == f"{path} exists and is not a log of this command: move it away." and not log.is_written
    assert path.read_text() == "mine" and (tmp_path / "notes").read_text() == "mine"


def test_json_goes_into_a_pipe_or_a_link(place, dynamic):
    (place / "real.json").touch()
    (place / "link.json").symlink_to("real.json")
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", place / "photos", "--device", "cpu"]
    argv = [*map(str, argv), "--save_dir", str(place / "out")]
    for _ in range(2):
        assert main([*argv, "--json", str(place / "link.json")]) == 0
        assert (place / "link.json").is_symlink() and len(json.loads((place / "real.json").read_text())["images"]) == 3
        assert main([*argv, "--json", str(place / "out" / ".." / "up.json")]) == 0
    assert main([*argv, "--json", "/dev/null"]) == 0 and not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    "argv, name",
    [
        (["curves", "{}"], "curves.png"),
        (["convert", "{weights}", "{}/new.pth", "--to", "torch"], "new.pth"),
        (["configs", "--copy", "bisenetv1_demo_256x128", "{}"], "bisenetv1_demo_256x128.yml"),
        (["demo", "--save_dir", "{}"], "notes"),
        (["demo", "--data", "{}", "--save_dir", "{}"], "notes"),
        (["data", "config", "{}", "--out", "{}/new.yml"], "new.yml"),
        (["data", "config", "{}", "--out", "{}/new.yml"], "new_data/notes"),
        (["data", "scenes", "{}"], "notes"),
        (["data", "prepare", "camvid", "{}", "{}"], "notes"),
        (["benchmark", "{exported}", "--picture", "{}/new.png"], "new.png"),
    ],
    ids=lambda value: value.replace("/", "-") if isinstance(value, str) else "-".join(value[:2]),
)
def test_existing_file_is_not_overwritten(argv, name, tmp_path, small, dynamic, capsys):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    assert main([word.format(tmp_path, weights=small.weights, exported=dynamic) for word in argv]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1 and contents(tmp_path) == before


@pytest.mark.parametrize("flag", ["--config", "--image_path", "--save_dir"])
def test_empty_folder_name_is_refused(flag, dynamic, small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = {"--config": dynamic / "deploy.yaml", "--image_path": small.images, "--save_dir": "out", flag: ""}
    assert main(["infer", *(str(word) for item in flags.items() for word in item)]) == 2
    assert f"{flag[2:]} is empty" in capsys.readouterr().err and not os.listdir(tmp_path)
