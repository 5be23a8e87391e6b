"""TIPC texts. They run programs, as a script does; TIPC itself writes and removes only in test_tipc/."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bisenetv1_plugin import files
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.tipc import __main__ as tipc
from bisenetv1_plugin.tipc import inputs, own_folders, short_chains, speed
from bisenetv1_plugin.tipc.chain import Chain
from bisenetv1_plugin.tipc.params import BENCHMARK, MODES, Params, TipcError, header_of

COUNT = itertools.count()
CONFIGS = Path(__file__).resolve().parents[2] / "test_tipc/configs/bisenetv1"
CPU = "train_linux_cpu_normal_normal_infer_python_linux_cpu.txt"
ONNX = "bisenetv1_model_linux_cpu_normal_normal_paddle2onnx_python_linux_cpu.txt"
CPP = "bisenetv1_model_linux_cpu_normal_normal_infer_cpp_linux_cpu.txt"
MINE = ("notes.txt", "model.onnx", "deploy.yaml", "model.pdparams")
SHIPPED = sorted(path.name for path in CONFIGS.glob("*.txt"))

pytestmark = pytest.mark.skipif(not CONFIGS.is_dir(), reason="not in a checkout")


@pytest.fixture
def work(tmp_path, monkeypatch):
    return lay_out(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield lay_out(tmp_path_factory.mktemp("tipc"), patch)


def lay_out(folder, patch):
    """`work`, where TIPC runs, with its configurations and a user's files; and `outside`, with more files."""
    work = folder / "work"
    shutil.copytree(CONFIGS, work / "test_tipc/configs/bisenetv1")
    write_scenes(folder / "outside/scenes", train=4, val=2, size=(48, 32), classes=DEMO_CLASSES)
    places_of_mine = ["", "whole_infer", "paddle2onnx_infer", "infer_cpp", "serving_infer", "lite_train_lite_infer"]
    inside = [f"work/test_tipc/output/mine/{name}" for name in places_of_mine]
    for place in ("outside", "outside/whole_infer", "outside/model", "work", *inside):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in MINE:
            (folder / place / name).write_text("mine")
    (work / "test_tipc/output/link").symlink_to(folder / "outside")
    (work / "test_tipc/output/bisenetv1").mkdir()
    (work / "test_tipc/output/bisenetv1/model.pdparams").write_text("weights")
    (work / "examples/cpp").mkdir(parents=True)
    (work / "examples/cpp/CMakeLists.txt").touch()
    patch.chdir(work)
    patch.setattr("bisenetv1_plugin.tipc.steps.shutil", SimpleNamespace(which=which))
    patch.setattr("bisenetv1_plugin.tipc.steps.subprocess", SimpleNamespace(run=run, STDOUT=subprocess.STDOUT))
    patch.setattr("bisenetv1_plugin.tipc.inputs.subprocess", SimpleNamespace(run=run))
    patch.setattr("urllib.request.urlopen", unreachable)
    return work


def unreachable(*_, **__):
    raise OSError("no network")


def which(program, path=None):
    """No compiler is found, so nothing is built in C++."""
    return program if program == "cmake" or program.endswith("build/segment") else shutil.which(program, path=path)


def run(command, **_):
    """Replaces the run of a step: writes its expected files, and only in test_tipc."""
    if command[1] == "--build":
        own_folders.check(command[2], "the property")
        Path(command[2]).mkdir(exist_ok=True)
        Path(command[2], "segment").touch()
    folders = [word.partition("=")[2] for word in command if word.startswith("--save_dir=")]
    folders += [command[at + 1] for at, word in enumerate(command[:-1]) if word == "--save_dir"]
    if folders and folders[-1]:
        own_folders.check(folders[-1], "the property")
        for name in ("deploy.yaml", "model.onnx", "picture.onnx", "a.png", "best_model/model.pdparams"):
            path = Path(folders[-1], name)
            if Path(folders[-1]).is_file() or (path.is_file() and path.read_bytes() == b"mine"):
                return SimpleNamespace(returncode=2)  # as the command would exit
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if path.exists() else None
            path.write_text(f"made {next(COUNT)}")
    return SimpleNamespace(returncode=0)


def mine(work, fuzz):
    """The contents of `outside`, and of a user's files in `work`."""
    inside = fuzz.contents(work / "test_tipc/output/mine")
    found = {path: inside[path] for path in inside if Path(path).name in MINE and Path(path).read_bytes() == b"mine"}
    found["link"], found["notes"] = os.readlink("test_tipc/output/link"), (work / "notes.txt").read_text()
    return {**found, **fuzz.contents(work.parent / "outside")}


def runs(path, mode, data):
    """Every action for this file."""
    header = header_of(path)
    if header == "paddle2onnx_params":
        return short_chains.run_onnx(path)
    if header == "cpp_infer_params":
        return short_chains.run_cpp(path)
    if header == "serving_params":
        return short_chains.run_serving(path)
    if header == "ptq_params":
        return short_chains.run_ptq(path)
    if mode == BENCHMARK:
        return speed.run(path)
    params = Params(path, mode)
    inputs.prepare(params, data, "test_tipc/output/mine/model.pdparams" if mode == "whole_infer" else None)
    return Chain(params).run()


def test_shipped_files_run(work, fuzz, monkeypatch):
    monkeypatch.setattr(speed, "_train", lambda *_: True)
    (work / "test_tipc/output/bisenetv1/model.pdparams").unlink()
    before = mine(work, fuzz)
    for name in sorted(SHIPPED, key=lambda name: "train" not in name):  # training prepares the data for the others
        for mode in (*MODES, BENCHMARK):
            if (mode == BENCHMARK) <= ("fp_items" in (CONFIGS / name).read_text()):
                for _ in range(2):  # the second over the files of the first
                    runs(Path("test_tipc/configs/bisenetv1") / name, mode, "../outside/scenes")
    assert mine(work, fuzz) == before


def hostile(work):
    outside = str(work.parent / "outside")
    return [
        *("", "null", ".", "..", "../..", "a/b", "a\\b", "/", outside, "../../../outside", "../mine", "link", "mine"),
        *("./test_tipc/output/link", "test_tipc/output/mine", "test_tipc/output/mine/model.pdparams", "test_tipc", "~"),
        *(f"{outside}/model.pdparams", "../outside/model.pdparams", "./test_tipc/output/link/model.pdparams"),
        *(
            "test_tipc/output/mine/deploy.yaml",
            f"{outside}/deploy.yaml",
            "notes.txt",
            "/dev/zero",
            "|",
            "||",
            "=|=",
            "'",
        ),
        *(
            "0",
            "-1",
            "1e9",
            "9" * 30,
            "abc",
            "cpu|../../x",
            "0;0,1",
            "True|False",
            "a" * 300,
            "中" * 99,
            "\x1b[2J",
            ";",
        ),
        *(
            "lite_train_lite_infer=x",
            "whole_infer=../..",
            "-c",
            "--config",
            "tools/train.py --config x",
            "${HOME}",
            "$(id)",
        ),
    ]


@st.composite
def mutated(draw, text, values):
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        how = draw(st.sampled_from(["value", "value", "value", "value", "key", "drop", "twice", "text"]))
        key, colon, value = lines[at].partition(":")
        new = draw(st.one_of(st.sampled_from(values), st.sampled_from(values), st.text(max_size=9)))
        if how == "value" and colon:
            lines[at] = f"{key}:{draw(st.sampled_from([new, f'{value}|{new}', f'{value}{new}', f'{new}{value}']))}"
        elif how == "key":
            lines[at] = f"{new}{colon}{value}"
        elif how == "drop" and len(lines) > 1:
            del lines[at]
        elif how == "twice":
            lines.insert(at, lines[at])
        elif how == "text":
            lines[at] = new
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.sampled_from([b"", b"\0", b"\xff", b"\r", b"\n" * 5000])) + content[at + 1 :]
    return content


@given(name=st.sampled_from(SHIPPED), mode=st.sampled_from([*MODES, BENCHMARK]), data=st.data())
def test_texts(sandbox, fuzz, name, mode, data):
    """It ends or is refused in a sentence, and changes no file of the user's."""
    path = Path("test_tipc/configs/bisenetv1/hostile.txt")
    text = (CONFIGS / name).read_text()
    path.write_bytes(data.draw(mutated(text, hostile(sandbox))))
    before, environment = mine(sandbox, fuzz), dict(os.environ)
    try:
        with fuzz.in_seconds(20):
            runs(path, mode, "../outside/scenes")
        event("done")
    except InputError as error:
        event("refused")
        assert str(error) and "\n" not in str(error) and "Traceback" not in str(error)
        assert "the property" not in str(error)
    except OSError as error:  # the command reports it in a sentence
        event("refused by the system")
        assert files.refusal(error)
    finally:
        for key in set(os.environ) - set(environment):
            del os.environ[key]
        os.environ.update(environment)
    assert mine(sandbox, fuzz) == before


LISTS = [
    "images/val/0.png labels/val/0.png",
    "../mine.txt x",
    "/etc/passwd /etc/passwd",
    "a",
    "a b c",
    "\0 \0",
    "a" * 5000,
]


@given(st.data())
def test_lists(sandbox, fuzz, data):
    folder = sandbox.parent / "lists"
    if not folder.exists():
        shutil.copytree(sandbox.parent / "outside/scenes", folder)
        os.mkfifo(folder / "pipe.png")
    real = (sandbox.parent / "outside/scenes/val.txt").read_text().splitlines()
    hostile_lines = [
        *LISTS,
        *real,
        "pipe.png pipe.png",
        f"{real[0]}.gone",
        f"{'../' * 30}dev/zero {real[0].split()[1]}",
    ]
    lines = data.draw(st.lists(st.sampled_from(hostile_lines), max_size=3)) + data.draw(st.just([]) | st.just(real))
    content = "\n".join(lines).encode() + data.draw(st.sampled_from([b"", b"", b"\n", b"\xff\n", b"\0"]))
    (folder / "val.txt").write_bytes(content)
    with fuzz.in_seconds(10):
        try:
            inputs.read_list(folder / "val.txt")
            event("done")
            inputs.read_list(folder / "val.txt", within=folder)
        except InputError as error:
            event("refused")
            assert str(error) and "\n" not in str(error)


def laid(work, name=CPU, **values):
    """A shipped file with other values; the keys are those of the TIPC standard."""
    path = work / "test_tipc/configs/bisenetv1" / name
    lines = path.read_text().splitlines()
    for key, value in values.items():
        at = [line.split(":")[0].strip("-") for line in lines].index(key)
        lines[at] = f"{lines[at].split(':')[0]}:{value}"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", [CPU, "train_ptq_infer_python.txt", ONNX, CPP])
@pytest.mark.parametrize("value", ["{outside}", "../../../outside", "..", ".", "a/b", "link", "mine", "", "null/.."])
def test_model_name_stays_inside_the_folder(work, fuzz, name, value):
    """TIPC would remove its folder."""
    before = mine(work, fuzz)
    path = laid(work, name, model_name=value.format(outside=work.parent / "outside"))
    with pytest.raises(InputError, match="must be a plain word|not below|move it away"):
        runs(path, "whole_infer", "../outside/scenes")
    assert mine(work, fuzz) == before


def test_results_folder_must_be_ours(work, fuzz):
    path = laid(work)
    folder = work / "test_tipc/output/bisenetv1/whole_infer"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(TipcError, match="has no results_.*log, so it is not from an earlier run: move it away"):
        Chain(Params(path, "whole_infer"))
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "results_python.log").touch()
    Chain(Params(path, "whole_infer"))
    assert os.listdir(folder) == ["results_python.log"]
    path = laid(work, infer_model="test_tipc/output/bisenetv1/whole_infer/model.pdparams")
    (folder / "model.pdparams").write_text("mine")
    with pytest.raises(TipcError, match="every run removes: move it to another folder"):
        Chain(Params(path, "whole_infer"))
    assert (folder / "model.pdparams").read_text() == "mine"


@pytest.mark.parametrize(
    "name, key",
    [
        *(("train_ptq_infer_python.txt", "config"), ("train_ptq_infer_python.txt", "save_dir")),
        *((ONNX, "save_dir"), (CPP, "save_dir")),
    ],
)
def test_export_stays_inside_its_folder(work, fuzz, name, key):
    before = mine(work, fuzz)
    for value in ("../outside", "test_tipc/output/link", "test_tipc/output/mine/notes.txt", "test_tipc/output/mine"):
        path = laid(work, name, **{key: value})
        if key == "config":  # the first of that name is the network's
            lines = path.read_text().splitlines()
            at = [number for number, line in enumerate(lines) if line.startswith("--config:")][-1]
            lines[at] = f"--config:{value}/deploy.yaml"
            path.write_text("\n".join(lines))
        try:
            steps, *_ = runs(path, "whole_infer", None)
            assert "mine" in value and steps.failed
        except TipcError:
            pass
        assert mine(work, fuzz) == before


class TestPrepare:
    @pytest.fixture
    def params(self, work):
        return Params(work / "test_tipc/configs/bisenetv1" / CPU, "lite_train_lite_infer")

    def test_weights_stay_inside_their_folder(self, work, fuzz):
        before = mine(work, fuzz)
        for target in ("../outside/model.pdparams", "test_tipc/output/link/model.pdparams", "notes.txt"):
            params = Params(laid(work, infer_model=target), "whole_infer")
            with pytest.raises(TipcError, match="not below"):
                inputs.prepare(params, "../outside/scenes", "../outside/model.pdparams")
        for target in ("test_tipc/output/mine/model.pdparams", "test_tipc/output/bisenetv1/model.pdparams"):
            params = Params(laid(work, infer_model=target), "whole_infer")
            with pytest.raises(InputError, match="no earlier run of this command made it"):
                inputs.prepare(params, "../outside/scenes", "../outside/scenes/train.txt")
        assert mine(work, fuzz) == before and not inputs.FOLDER.exists()

    def test_weights_of_an_earlier_run_are_replaced(self, work):
        target = "test_tipc/output/new/model.pdparams"
        params = Params(laid(work, infer_model=target), "whole_infer")
        for weights in ("../outside/model.pdparams", "../outside/scenes/train.txt"):
            inputs.prepare(params, "../outside/scenes", weights)
            assert Path(target).read_bytes() == Path(weights).read_bytes()
        Path(target).write_text("trained for a week")
        with pytest.raises(InputError, match="no earlier run of this command made it"):
            inputs.prepare(params, "../outside/scenes", "../outside/model.pdparams")

    def test_own_lists(self, params):
        shutil.copytree("../outside/scenes", inputs.FOLDER)
        before = (inputs.FOLDER / "train.txt").read_text()
        for data in (str(inputs.FOLDER), "../outside/scenes"):
            with pytest.raises(InputError, match="and it is read|no earlier run of this command made it"):
                inputs.prepare(params, data)
        assert (inputs.FOLDER / "train.txt").read_text() == before

    def test_edited_configurations(self, work, params, tmp_path):
        elsewhere = tmp_path / "configs"
        shutil.copytree(params.path.parent, elsewhere)
        inputs.prepare(Params(elsewhere / CPU, params.mode), "../outside/scenes")
        mine = inputs.CONFIGS / "bisenetv1_tipc.yml"
        mine.write_text("mine")
        with pytest.raises(InputError, match="no earlier run of this command made it"):
            inputs.prepare(Params(elsewhere / CPU, params.mode), "../outside/scenes")
        assert mine.read_text() == "mine"

    @pytest.mark.parametrize("name", ["cityscapes_20imgs", "scenes"])
    def test_own_folders(self, params, name):
        """The download once removed the first, and wrote into the second."""
        (inputs.FOLDER.parent / name).mkdir(parents=True)
        (inputs.FOLDER.parent / name / "notes.txt").write_text("mine")
        with pytest.raises(TipcError, match=f"{name} exists, and .*move it away, or name your data"):
            inputs.prepare(params)
        assert (inputs.FOLDER.parent / name / "notes.txt").read_text() == "mine"

    def archive(self, tmp_path, line, monkeypatch):
        """A download with this line in its list."""
        scenes = Path("../outside/scenes")
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path in sorted(scenes.rglob("*")):
                if path.is_file() and path.name != "val.txt":
                    archive.add(path, f"data/{path.relative_to(scenes)}")
            text = f"{(scenes / 'val.txt').read_text()}{line}".encode()
            member = tarfile.TarInfo("data/val.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(content.getvalue()))

    @pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python unpacks nothing")
    def test_download_lists_only_its_own_files(self, params, tmp_path, monkeypatch):
        self.archive(tmp_path, "", monkeypatch)
        for _ in range(2):
            inputs.prepare(params)
        folder = inputs.FOLDER.parent / "cityscapes_20imgs"
        assert (folder / "downloaded_from.txt").is_file() and os.listdir(inputs.FOLDER.parent) != []
        assert str(folder.resolve()) in (inputs.FOLDER / "infer.txt").read_text()
        image, label = (Path("../outside/scenes").resolve() / name for name in
                        (Path("../outside/scenes/val.txt").read_text().split()[:2]))  # fmt: skip
        self.archive(tmp_path, f"{image} {label}\n", monkeypatch)
        with pytest.raises(TipcError, match="which is not below"):
            inputs.prepare(params)

    def test_labels_of_more_than_8_bits(self, params, tmp_path):
        import numpy as np
        from PIL import Image

        data = tmp_path / "data"
        shutil.copytree("../outside/scenes", data)
        label = data / (data / "val.txt").read_text().split()[1]
        Image.fromarray(np.full((32, 48), 700, "uint16")).save(label)
        with pytest.raises(TipcError, match="700: classes are numbers from 0 to 255"):
            inputs.prepare(params, str(data))


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"===train_params===\nmodel_name:\xff\n", "line 2: it is not UTF-8"),
        (b"===train_params===\n\nmodel\0_name:a\n", "line 3: it is not text"),
        (b"\n" * 2_000_000, "is larger than 1048576 bytes"),
        (b"", "has 0 lines"),
        (b"===train_params===\n" + b"a" * 10_001, "line 2: it has more than 10000 characters"),
    ],
)
def test_not_a_tipc_text(tmp_path, fuzz, content, sentence):
    path = tmp_path / "hostile.txt"
    path.write_bytes(content)
    with pytest.raises(TipcError, match=f"hostile.txt.*{sentence}"):
        Params(path, "whole_infer")
    path.unlink()
    os.mkfifo(path)
    for none in (path, tmp_path, "/dev/zero"):
        with fuzz.in_seconds(5), pytest.raises(TipcError, match="there is no TIPC file"):
            Params(none, "whole_infer")


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"iters": "whole_infer=0"}, "line 7: '0' must be a whole number, 1 or more"),
        ({"iters": "whole_infer=abc"}, "line 7: 'abc' must be"),
        ({"cpu_threads": "2|x"}, "'x' must be a whole number"),
        ({"trainer": "../../x"}, "line 15: '../../x' must be a plain word"),
        ({"infer_export": "tools/export.py --config 'x"}, "is not a command: No closing quotation"),
    ],
)
def test_wrong_values(work, values, sentence):
    path = laid(work, **values)
    with pytest.raises(TipcError, match=sentence):
        Chain(Params(path, "whole_infer"))
    assert not (work / "test_tipc/output/bisenetv1/whole_infer").exists()


@pytest.mark.parametrize("name", [CPU, "train_ptq_infer_python.txt", ONNX, CPP])
def test_results_folder_is_named_in_the_error(work, name):
    """Otherwise the command would write where the file's other lines say."""
    path = work / "test_tipc/configs/bisenetv1" / name
    lines = path.read_text().splitlines()
    at = max(number for number, line in enumerate(lines) if line.startswith("--save_dir:"))
    path.write_text("\n".join([*lines[:at], f"--x{lines[at][10:]}", *lines[at + 1 :]]))
    with pytest.raises(TipcError, match=f"line {at + 1} must start with `--save_dir:`, not with '--x'"):
        runs(path, "whole_infer", "../outside/scenes") if name != CPU else Chain(Params(path, "whole_infer"))


def test_a_training_has_a_device(work):
    path = laid(work, device="")
    with pytest.raises(TipcError, match="line 5: it names no device"):
        Chain(Params(path, "lite_train_lite_infer"))


def test_the_command_ends_in_a_sentence(work, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "test_tipc/output")

    monkeypatch.setattr("bisenetv1_plugin.tipc.own_folders.clear", full)
    monkeypatch.setattr(sys, "argv", ["tipc", "run", f"test_tipc/configs/bisenetv1/{CPU}", "whole_infer"])
    assert tipc.main() == 2
    assert capsys.readouterr().err.startswith("tipc: test_tipc/output: no space left on the device")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "3", '{"passed": true}', '{"passed": 1, "results": 3}', '{"passed": 1, "results": [{"name": []}]}',
     '{"passed": true, "results": [{"name": "a", "images": {}}]}', "\xff", "[" * 100000],
)  # fmt: skip
def test_compare_results(tmp_path, content):
    script = CONFIGS.parents[1] / "compare_results.py"
    (tmp_path / "a.json").write_bytes(content.encode("latin1"))
    (tmp_path / "b.json").write_text(json.dumps({"passed": True, "results": []}))
    for stored, log in (("a.json", "b.json"), ("b.json", "a.json"), ("a.json", "a.json"), ("a.json", "/dev/zero")):
        done = subprocess.run(
            [sys.executable, script, "--gt_file", stored, "--log_file", log],
            cwd=tmp_path, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert done.returncode == 1 and "Traceback" not in done.stderr
