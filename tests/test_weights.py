"""`.pdparams` files are read as `paddle.load` reads them, and files that want to run code are refused."""

import base64
import codecs
import functools
import os
import pickle
from collections import OrderedDict

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin import weights, zoo
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.training import builder

LAYER = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))

OF_2_6_2 = (
    "gASVCAEAAAAAAAB9lCiMBndlaWdodJSMFW51bXB5LmNvcmUubXVsdGlhcnJheZSMDF9yZWNvbnN0cnVjdJSTlIwFbnVtcHmUjAduZGFycmF5lJ"
    "OUSwCFlEMBYpSHlFKUKEsBSwFLAYaUaAWMBWR0eXBllJOUjAJmNJSJiIeUUpQoSwOMATyUTk5OSv////9K/////0sAdJRiiUMEAAAAP5R0lGKM"
    "BGJpYXOUaARoB0sAhZRoCYeUUpQoSwFLAYWUaBGJQwQAAADAlHSUYowbU3RydWN0dXJlZFRvUGFyYW1ldGVyTmFtZUBAlH2UKGgBjAxsaW5lYX"
    "JfMC53XzCUaBaMDGxpbmVhcl8wLmJfMJR1dS4="
)
OF_3_3_1 = (
    "gAJ9cQAoWAYAAAB3ZWlnaHRxAWNudW1weS5jb3JlLm11bHRpYXJyYXkKX3JlY29uc3RydWN0CnECY251bXB5Cm5kYXJyYXkKcQNLAIVxBGNfY2"
    "9kZWNzCmVuY29kZQpxBVgBAAAAYnEGWAYAAABsYXRpbjFxB4ZxCFJxCYdxClJxCyhLAUsBSwGGcQxjbnVtcHkKZHR5cGUKcQ1YAgAAAGY0cQ6J"
    "iIdxD1JxEChLA1gBAAAAPHERTk5OSv////9K/////0sAdHESYoloBVgEAAAAAAAAP3ETaAeGcRRScRV0cRZiWAQAAABiaWFzcRdoAmgDSwCFcR"
    "hoCYdxGVJxGihLAUsBhXEbaBCJaAVYBQAAAAAAAMOAcRxoB4ZxHVJxHnRxH2JYGwAAAFN0cnVjdHVyZWRUb1BhcmFtZXRlck5hbWVAQHEgfXEh"
    "KGgBWAwAAABsaW5lYXJfMC53XzBxImgXWAwAAABsaW5lYXJfMC5iXzBxI3V1Lg=="
)


def cast(dtype):
    layer = paddle.nn.Linear(2, 3)
    layer.to(dtype=dtype)
    return layer.state_dict()


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        return all(same(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return a == b


def static_tensor():
    """A tensor of a static program, which Paddle pickles as a call of `eval`; kept alive by its owner."""
    static_tensor.owner = paddle.ones([2, 3])
    static_tensor.value = static_tensor.owner.value()
    return static_tensor.value.get_tensor()


CONTENTS = {
    "state": lambda: LAYER.state_dict(),
    "ordered": lambda: OrderedDict(LAYER.state_dict()),
    "bfloat16": lambda: cast("bfloat16"),
    "float16": lambda: cast("float16"),
    "numpy": lambda: {"a": np.ones((2, 3), "float32"), "none": np.zeros((0, 3), "float64"), "n": np.array(3)},
    "checkpoint": lambda: {
        "model": LAYER.state_dict(),
        "epoch": 3,
        "best": np.float64(0.5),
        "list": [np.ones(2), (1,)],
    },
    "static": lambda: {"x": {"a": static_tensor()}, "k": 3},
    "kinds": lambda: {"b": np.array([True]), "c": np.ones(2, "complex64"), "F": np.asfortranarray(np.ones((2, 3)))},
    "swapped": lambda: {"a": np.arange(3, dtype=">f4")},
    "set": lambda: {"names": {"a"}, "a": np.ones(1)},
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("content", CONTENTS)
def test_equals_paddle_load(tmp_path, content, protocol):
    path = str(tmp_path / "w.pdparams")
    paddle.save(CONTENTS[content](), path, protocol=protocol)
    assert same(weights.load_state(path), paddle.load(path, return_numpy=True))


def test_numpy_2_and_python_2(tmp_path):
    """NumPy 2 has another name for the same function; Python 2 wrote bytes as its strings."""
    array = np.arange(3, dtype="float32")
    content = pickle.dumps({"a": array}, protocol=2)
    assert b"cnumpy.core.multiarray\n" in content or b"cnumpy._core.multiarray\n" in content
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        (tmp_path / "w").write_bytes(
            content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core.multiarray", name)
        )
        assert same(weights.load_state(str(tmp_path / "w")), {"a": array})
    old = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08\x00\x00\x80?\x00\x00\x00@tbs."
    )
    (tmp_path / "old").write_bytes(old)
    assert same(weights.load_state(str(tmp_path / "old")), {"a": np.array([1, 2], "float32")})
    assert same(weights.load_state(str(tmp_path / "old")), paddle.load(str(tmp_path / "old"), return_numpy=True))


def test_files_of_another_paddle(tmp_path):
    """A Linear(1, 1) by 2.6.2 in protocol 4 and by 3.3.1 in protocol 2."""
    for text in (OF_2_6_2, OF_3_3_1):
        (tmp_path / "w").write_bytes(base64.b64decode(text))
        state = weights.load_state(str(tmp_path / "w"))
        assert same(state, {"weight": np.array([[0.5]], "float32"), "bias": np.array([-2], "float32")})


def test_large_tensors_in_parts(tmp_path):
    """As protocols 2 and 3 have tensors above a gigabyte."""
    parts = {"a@@.0": np.arange(3.0), "a@@.1": np.arange(3.0, 6.0), "b": np.ones(1)}
    parts["UnpackBigParamInfor@@"] = {"a": {"OriginShape": (2, 3), "slices": ["a@@.0", "a@@.1"]}}
    (tmp_path / "w").write_bytes(pickle.dumps({**parts, "StructuredToParameterName@@": {"b": "p"}}, protocol=2))
    path = str(tmp_path / "w")
    assert same(weights.load_state(path), paddle.load(path, return_numpy=True))


def test_a_network_s_parameters(tmp_path):
    """Into a layer of the same type, bit by bit, also in half precision."""
    for dtype in ("float32", "float16", "bfloat16"):
        first, second = paddle.nn.Linear(2, 3), paddle.nn.Linear(2, 3)
        for layer in (first, second):
            layer.to(dtype=dtype)
        paddle.save(first.state_dict(), str(tmp_path / "w.pdparams"))
        weights.load_trained(second, str(tmp_path / "w.pdparams"))
        assert second.weight.dtype == first.weight.dtype
        assert (second.weight.astype("float32") == first.weight.astype("float32")).all()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_of_a_diverged_training(tmp_path, value):
    """Without this check, all masks would be of one class."""
    layer = paddle.nn.Linear(2, 3)
    before = layer.weight.numpy()
    paddle.save({"weight": paddle.zeros([2, 3]), "bias": paddle.to_tensor([1, value, 1])}, str(tmp_path / "w.pdparams"))
    with pytest.raises(ValueError, match=r"holds NaN or infinity in 1 tensors \(bias\).* Take an earlier checkpoint"):
        weights.load_trained(layer, str(tmp_path / "w.pdparams"))
    assert (layer.weight.numpy() == before).all()


@pytest.mark.parametrize("kind", ["bool", "int8", "uint32", "float16", "float64", "longdouble", "complex64"])
def test_another_type_is_refused(tmp_path, kind):
    layer = paddle.nn.Linear(2, 3)
    state = {name: np.ones(value.shape, "float32") for name, value in layer.state_dict().items()}
    state["bias"] = state["bias"].astype(kind)
    before = layer.weight.numpy()
    (tmp_path / "w").write_bytes(pickle.dumps(state, protocol=4))
    with pytest.raises(ValueError, match=r"1 have another shape or type \(bias \(3 of "):
        weights.load_trained(layer, str(tmp_path / "w"))
    assert (layer.weight.numpy() == before).all()
    assert weights.load_pretrained(layer, str(tmp_path / "w")) == 1


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class Build(Call):
    """The same, with a state that is set on the result."""

    def __init__(self, function, arguments, state):
        self.reduced = function, arguments, state


def crafted(folder):
    """name of what is called -> an object whose pickle would create `folder/created`."""
    from numpy.core.multiarray import _reconstruct

    created = str(folder / "created")
    code = f"__import__('os').mkdir({created!r})"
    np.save(folder / "gadget.npy", np.array([Call(os.mkdir, created)], object), allow_pickle=True)
    return {
        "posix.system": Call(os.system, f"mkdir {created}"),
        "posix.mkdir": [{"deep": ("inside", Call(os.mkdir, created))}],
        "builtins.eval of": Call(eval, code),
        "builtins.eval of 'data": Call(eval, "data", {"data": 1, "__builtins__": {}}),
        "builtins.exec": Call(exec, code),
        "builtins.getattr": Call(getattr, "text", "upper"),
        "numpy.load": Call(np.load, str(folder / "gadget.npy"), None, True),
        "numpy.fromfile": Call(np.fromfile, __file__, "uint8"),
        "functools.partial": Call(functools.partial, os.mkdir, created),
        "numpy.dtype of 'O8'": np.array([Call(dict)], object),
        "_reconstruct for": Call(_reconstruct, OrderedDict, (0,), b"b"),
        "_codecs.encode with": Call(codecs.encode, "a", "rot13"),
        "numpy.dtype of a structure": Build(
            np.dtype, ("f4",), (3, "|", None, ("a",), {"a": (np.dtype("f4"), 0)}, 4, 1, 0)
        ),
        "posix.rmdir": {"w": Call(tuple, (Call(os.rmdir, created),))},
    }


NAMES = [
    *("posix.system", "posix.mkdir", "builtins.eval of", "builtins.eval of 'data", "builtins.exec", "builtins.getattr"),
    *("numpy.load", "numpy.fromfile", "functools.partial", "numpy.dtype of 'O8'", "_reconstruct for"),
    *("_codecs.encode with", "numpy.dtype of a structure", "posix.rmdir"),
]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_crafted_file_is_refused_and_runs_nothing(tmp_path, name, protocol):
    content = crafted(tmp_path)[name]
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"weight": np.ones(1), "x": content}, protocol=protocol))
    with pytest.raises(InputError) as refused:
        weights.load_state(str(path))
    sentence = str(refused.value).replace("__builtin__", "builtins").replace("nt.", "posix.")
    assert name in sentence and str(path) in sentence and "nothing in the file was executed" in sentence
    assert "--trust_weights" in sentence
    assert sorted(os.listdir(tmp_path)) == ["gadget.npy", "w.pdparams"]


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c\x011\x85R.",  # a dotted name
        b"\x80\x02cbuiltins\neval\n}U\x01aK\x01sb.",  # a state for a function
        b"(S'mkdir created'\nios\nsystem\n.",  # the oldest protocol's call
        b"\x80\x04\x82\x01.",  # a name from the registry of extensions
        b"\x80\x02Pname\n.",  # a persistent object
        b"\x80\x04\x95",  # cut off
        b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",  # an array of no file's size
        b"no pickle",
        b"",
    ],
)
def test_other_machines_code(tmp_path, monkeypatch, opcodes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pdparams").write_bytes(opcodes)
    with pytest.raises(ValueError, match=r"w\.pdparams"):
        weights.load_state("w.pdparams")
    assert os.listdir(tmp_path) == ["w.pdparams"]


def test_sizes_are_checked(tmp_path):
    """NumPy would believe them."""
    content = pickle.dumps({"a": np.arange(4, dtype="float32")}, protocol=2)
    (tmp_path / "w").write_bytes(content.replace(b"K\x04\x85", b"K\x7f\x85"))
    with pytest.raises(ValueError, match="cannot read the weights"):
        weights.load_state(str(tmp_path / "w"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder with a configuration, its network's weights, and the same weights with a call in them."""
    folder = tmp_path_factory.mktemp("hostile")
    values = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    values["model"]["num_classes"] = 19
    for mode in ("train", "val"):
        values[f"{mode}_dataset"] = {"type": "SyntheticStreetScenes", "mode": mode, "transforms": []}
    (folder / "config.yml").write_text(yaml.safe_dump(values))
    state = builder.Builder(builder.load_config(str(folder / "config.yml"))).model.state_dict()
    paddle.save(state, str(folder / "good.pdparams"))
    state = {name: value.numpy() for name, value in state.items()}
    (folder / "bad.pdparams").write_bytes(pickle.dumps({**state, "x": Call(os.mkdir, str(folder / "created"))}))
    values["model"]["pretrained"] = str(folder / "bad.pdparams")
    (folder / "pretrained.yml").write_text(yaml.safe_dump(values))
    Image.new("RGB", (32, 32)).save(folder / "image.png")
    return folder


COMMANDS = {
    "val": ["val", "--config", "config.yml", "--model_path", "bad.pdparams", "--device", "cpu"],
    "export": [
        "export",
        "--config",
        "config.yml",
        "--model_path",
        "bad.pdparams",
        "--save_dir",
        "ex",
        "--device",
        "cpu",
    ],
    "predict": ["predict", "--config", "config.yml", "--model_path", "bad.pdparams", "--image_path", "image.png"],
    "quantize": ["quantize", "--config", "config.yml", "--model_path", "bad.pdparams", "--save_dir", "ex"],
    "convert": ["convert", "bad.pdparams", "net.pth", "--to", "torch"],
    "pretrained": ["val", "--config", "pretrained.yml", "--model_path", "good.pdparams", "--device", "cpu"],
    "train": ["train", "--config", "pretrained.yml", "--iters", "1", "--device", "cpu", "--save_dir", "out"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses(hostile, monkeypatch, capsys, command):
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # `quantize` sets a flag of Paddle's
    assert main(COMMANDS[command]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("bisenetv1: the weights ") and "bad.pdparams want to call posix.mkdir" in error
    assert not (hostile / "created").exists() and not (hostile / "ex").exists()


def test_a_backbone_of_paddleseg_runs_nothing(hostile, monkeypatch, capsys):
    """Those read `pretrained` with `paddle.load`."""
    monkeypatch.chdir(hostile)
    values = yaml.safe_load((hostile / "config.yml").read_text())
    values["model"]["backbone"] = {"type": "ResNet18_vd", "pretrained": "bad.pdparams"}
    (hostile / "upstream.yml").write_text(yaml.safe_dump(values))
    for command in (
        ["val", "--config", "upstream.yml", "--model_path", "good.pdparams", "--device", "cpu"],
        ["train", "--config", "upstream.yml", "--iters", "1", "--device", "cpu", "--save_dir", "out"],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("bisenetv1: the weights bad.pdparams want to call posix.mkdir")
        assert not (hostile / "created").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_ordered_dictionary_of_python_2(tmp_path, protocol):
    """Which writes its items as a list of lists."""
    items = [["a", np.ones(2)], ["b", 3]]
    content = pickle.dumps({"x": Call(OrderedDict, items)}, protocol=protocol)
    (tmp_path / "w").write_bytes(content)
    found = weights.load_state(str(tmp_path / "w"))
    assert same(found, {"x": OrderedDict(a=np.ones(2), b=3)})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "w.pdparams")
    with pytest.raises(FileNotFoundError):
        weights.load_state(str(tmp_path / "w.pdparams"))


@pytest.mark.slow
def test_trusted_file_is_loaded(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    assert main(["export", *COMMANDS["export"][1:], "--trust_weights"]) == 0
    assert (hostile / "created").is_dir()  # the file does what it says
    (hostile / "created").rmdir()
    with pytest.raises(InputError):  # and the trust ends with the command
        weights.load_state("bad.pdparams")


@pytest.mark.slow
def test_imported_first(python):
    """This module may be imported before PaddleSeg, whose import registers the networks that need it."""
    code = "from bisenetv1_plugin import weights; import paddleseg; from paddleseg.cvlibs import manager; "
    done = python("-c", code + "assert 'BiSeNetV1' in manager.MODELS.components_dict")
    assert done.returncode == 0 and "was skipped" not in done.stderr, done.stderr
