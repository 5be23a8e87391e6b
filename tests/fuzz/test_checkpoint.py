"""A checkpoint: the contents of its progress.json, and the name of its folder.

The examples are changed copies of a training's progress.json.
"""

import json
import os
import shutil

import paddle
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bisenetv1_plugin.compat import core_train, progress_file, resumed_training
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.training import checkpoints

HOSTILE = st.one_of(
    st.sampled_from([None, True, "", "now", -1, 0, 1.5, 1 << 32, 10**400, float("nan"), float("inf"), [], {}, [[]]]),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)
SCALING = dict.fromkeys(progress_file._SCALING, 2)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The output folder of a training, with checkpoints of one tensor."""
    out = tmp_path_factory.mktemp("fuzz") / "out"
    for name in ("model.pdparams", "model.pdopt", "ema_model.pdparams"):
        paddle.save({"a": paddle.ones([2])}, str(out / "iter_4" / name))
    for kind, (name, _) in progress_file.BEST.items():
        paddle.save({"a": paddle.ones([2])}, str(out / kind / name))
    return out


CHECKPOINT = {
    **{"begun": 1e9, "saved": 1e9 + 60, "seed": 5, "average": True, "mIoU": 0.25, "ema_mIoU": 0.5, "stop_count": 1},
    "loss_scaling": {**SCALING, "scale": [1024.0]},
}
BEST = {"begun": 1e9, "mIoU": 0.5, "iteration": 2}


@st.composite
def mutated(draw, values):
    """The bytes of a progress.json, with up to a few changes."""
    values = json.loads(json.dumps(values))
    for key in draw(st.sets(st.sampled_from(sorted(values)), max_size=2)):
        if draw(st.booleans()):
            values[key] = draw(HOSTILE)
        elif isinstance(values[key], dict):
            values[key][draw(st.sampled_from(sorted(values[key])))] = draw(HOSTILE)
        else:
            del values[key]
    content = json.dumps(values).encode()
    how = draw(st.sampled_from(["nothing", "nothing", "cut", "flip", "insert", "repeat"]))
    at = draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:at]
    if how == "flip":
        return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
    if how == "insert":
        return content[:at] + draw(st.binary(max_size=8)) + content[at:]
    return content[:at] * draw(st.integers(1, 50)) + content[at:] if how == "repeat" else content


def use(out):
    """Read a checkpoint as a resumed training does."""
    newest = checkpoints.newest(str(out), tidy=False)
    checkpoints.refuse_broken(str(out / "iter_4"))
    assert newest == str(out / "iter_4")
    resumed = resumed_training._Training(str(out), newest, [], True, 5)
    with core_train.statements_before_loop(resumed.first_statements()):
        pass
    progress = progress_file.read(newest)
    if progress and progress.loss_scaling:
        scaler = paddle.amp.GradScaler()
        scaler._enable = True
        scaler.load_state_dict(progress.loss_scaling)


def check(out, fuzz):
    before = fuzz.contents(out / "iter_4")
    with fuzz.in_seconds(20):
        try:
            use(out)
            event("goes on")
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
            event("refused")
    assert fuzz.contents(out / "iter_4") == before


def test_unchanged(out, fuzz):
    progress_file.write(str(out / "iter_4"), **CHECKPOINT)
    progress_file.write(str(out / "best_model"), **BEST)
    use(out)


@given(checkpoint=mutated(CHECKPOINT), best=mutated(BEST))
def test_changed_progress(out, fuzz, checkpoint, best):
    (out / "iter_4" / "progress.json").write_bytes(checkpoint)
    (out / "best_model" / "progress.json").write_bytes(best)
    (out / "ema_best_model" / "progress.json").write_bytes(best)
    check(out, fuzz)


@pytest.mark.parametrize("what", ["folder", "fifo", "link in a circle", "link to nothing", "/dev/zero"])
def test_progress_that_is_no_file(out, fuzz, what):
    path = out / "iter_4" / "progress.json"
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"link in a circle": path, "link to nothing": out / "nothing"}.get(what, what))
    try:
        with fuzz.in_seconds(20):
            use(out)  # as without a progress.json
    finally:
        shutil.rmtree(path) if what == "folder" else path.unlink()


@given(name=st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40))
def test_folder_names(out, fuzz, name):
    with fuzz.in_seconds(20):
        for folder in (name, f"iter_{name}"):
            number = progress_file.iteration(folder)
            assert number is None or number >= 0
            with pytest.raises(InputError):
                checkpoints.refuse_broken(str(out / "there is no such folder" / folder))
