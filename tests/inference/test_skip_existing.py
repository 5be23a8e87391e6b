"""`infer --skip_existing`: only pictures with complete results of an earlier run are skipped."""

import json
import shutil

import cv2
import numpy as np
import pytest
from small_network import infer, run


@pytest.fixture(scope="module")
def complete(dynamic, small):
    assert infer(dynamic, small, small.folder / "complete", "--overlay") == 0
    return small.folder / "complete"


@pytest.fixture
def first(complete, tmp_path):
    """A folder like that of a killed run: the results of the last picture are missing."""
    out = shutil.copytree(complete, tmp_path / "out")
    last = sorted(out.glob("*.png"))[-1].name
    for path in out.rglob(last):
        path.unlink()
    (out / "part-abcdefgh.png").write_bytes(b"\x89PNG")  # a temporary file of the killed process
    return out


def again(dynamic, small, out, capsys, *flags, code=0):
    """Run `infer` again; returns its output and the files that it rewrote."""
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    capsys.readouterr()
    assert infer(dynamic, small, out, "--skip_existing", *flags) == code
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    names = {path.relative_to(out).as_posix() for path, time in after.items() if before.get(path) != time}
    return capsys.readouterr(), names


def of(name, *folders):
    return {f"{folder}{name}.png" for folder in ("", "color/", *folders)}


def test_only_missing_pictures_are_run(dynamic, small, first, tmp_path, capsys):
    names = sorted(path.stem for path in small.images.iterdir())
    said, written = again(dynamic, small, first, capsys, "--overlay", "--json", tmp_path / "a.json")
    assert "2 of 3 are done already" in said.out and written == of(names[2], "overlay/")
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["skipped"] == 2 and [image["name"] for image in figures["images"]] == names[2:]
    said, written = again(dynamic, small, first, capsys, "--overlay", "--json", tmp_path / "a.json")
    assert "3 of 3 are done already" in said.out and f"The masks are in {first}" in said.out and not written
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["images"] == [] and figures["runtime"] is None, "no runtime is started for nothing"


def test_all_requested_files_must_exist(dynamic, small, first, capsys):
    names = sorted(path.stem for path in small.images.iterdir())
    (first / "overlay" / f"{names[0]}.png").unlink()
    (first / "color" / f"{names[1]}.png").write_bytes(b"")
    _, written = again(dynamic, small, first, capsys)
    assert written == of(names[1]) | of(names[2])
    _, written = again(dynamic, small, first, capsys, "--overlay")
    assert written == of(names[0], "overlay/") | of(names[2], "overlay/")
    _, written = again(dynamic, small, first, capsys, "--overlay", "--save_regions", "geojson")
    assert len(written) == 9 and len(list(first.glob("regions/*.geojson"))) == 3
    regions = sorted(first.glob("regions/*.geojson"))[0]
    regions.write_bytes(regions.read_bytes().replace(b'"area": ', b'"area":  ', 1))  # edited by a user
    said, written = again(dynamic, small, first, capsys, "--save_regions", "geojson", code=2)
    assert "no earlier run of this command made it" in said.err and not written


def test_damaged_mask_is_rewritten(dynamic, small, first, capsys):
    mask = sorted(first.glob("0*.png"))[0]
    content = bytearray(mask.read_bytes())
    content[60] ^= 0xFF
    mask.write_bytes(content)
    said, written = again(dynamic, small, first, capsys)
    assert "1 of 3 are done already" in said.out and mask.name in written
    assert mask.read_bytes() != content


def test_no_shares_of_skipped_pictures(logits, small, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--unknown_below", "0.5", "--with_argmax"]
    assert infer(logits, small, out, *flags) == 0 and "are unknown" in capsys.readouterr().out
    said, written = again(logits, small, out, capsys, *flags)
    assert f"The masks are in {out}" in said.out and "are unknown" not in said.out and not written


def test_unreadable_pictures_are_still_reported(dynamic, small, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(small.images, photos)
    (photos / "z.png").write_bytes((photos / "00001.png").read_bytes()[:200])
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--image_path", photos, "--save_dir", out, "--skip_existing"]
    assert run(*argv) == 1 and run(*argv) == 1
    said = capsys.readouterr()
    assert "3 of 4 are done already" in said.out and said.err.count("z.png cannot be read and was left out") == 2


def test_invalid_flags(dynamic, small, first, capsys):
    argv = ["infer", "--config", dynamic / "deploy.yaml", "--save_dir", first, "--skip_existing"]
    assert run(*argv, "--image_path", small.images, "--save_regions", "coco") == 2
    assert "one file for all pictures" in capsys.readouterr().err
    writer = cv2.VideoWriter(str(first / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    writer.write(np.zeros((64, 96, 3), "uint8"))
    writer.release()
    assert run(*argv, "--image_path", first / "drive.avi") == 2
    assert "--skip_existing is for pictures" in capsys.readouterr().err
