"""Weights: any file gives arrays or a sentence, in time and memory bounded by the file's size."""

import io
import pickle
import pickletools
import struct
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from bisenetv1_plugin import pickles, weights

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import event, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

MEBIBYTE = 2**20
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def text(value):
    content = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(content)) + content


def data(content):
    return b"B" + struct.pack("<I", len(content)) + content


def dtype(code, order="<"):
    return (
        b"cnumpy\ndtype\n"
        + text(code)
        + b"\x89\x88\x87R(K\x03"
        + text(order)
        + b"NNNJ"
        + b"\xff" * 4
        + (b"J" + b"\xff" * 4 + b"K\x00tb")
    )


def array(shape, kind, content):
    """Opcodes of an array, from the opcodes of its `shape`, `kind` and `content`."""
    return RECONSTRUCT + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def state(*items):
    """A file with a dictionary of these opcodes, names and values in turn."""
    return b"\x80\x02}" + b"".join(b"".join(items[i : i + 2]) + b"s" for i in range(0, len(items), 2)) + b"."


def put(number):
    return b"r" + struct.pack("<I", number)


NESTED = b")q\x00" + b"h\x00\x86q\x00" * 60  # pairs of the same pair
ONE = MEBIBYTE * b"\x00"

BOMBS = {
    "tuples of the same two tuples": state(text("a"), NESTED),
    "such a tuple in a message": state(text("a"), NESTED + b"cnumpy.core.multiarray\n_reconstruct\nh\x00)K\x00\x87R"),
    "such a tuple in a set": state(text("a"), b"c__builtin__\nset\n]" + NESTED + b"a\x85R"),
    "a list in itself": state(text("a"), b"]q\x00h\x00ah\x00a"),
    "a deep list": state(text("a"), b"])" + b"\x85" * 20000 + b"a"),
    "a large number in the memo": state(text("a"), b"N" + put(2**31 - 1)),
    "bytes of no file's length": b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
    "text of no file's length": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a",
    "a frame of no file's length": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
    "an integer of a megabyte": state(text("a"), b"\x8b" + struct.pack("<I", MEBIBYTE) + b"\x7f" * MEBIBYTE),
    "digits": state(text("a"), b"L" + b"9" * MEBIBYTE + b"L\n"),
    "a name without end": b"c" + b"a" * MEBIBYTE + b"\nb\n.",
    "two equal long names": (
        b"\x80\x02}"
        + text("a" * MEBIBYTE)
        + b"q\x00Ns"
        + text("a" * MEBIBYTE)
        + b"q\x01Ns"
        + b"h\x01Ns" * 100000
        + b"."
    ),
    "numbers that collide": b"\x80\x02}("
    + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(20000))
    + b"u.",
    "one text, encoded again and again": state(
        text("a"),
        b"(" + text("a" * MEBIBYTE) + b"q\x00" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000 + b"t",
    ),
    "one list, in many sets": state(
        text("a"), b"(](" + text("a") * 20000 + b"eq\x00" + b"c__builtin__\nset\nh\x00\x85R" * 1000 + b"t"
    ),
    "one list, in many ordered dictionaries": state(
        text("a"),
        b"(]("
        + (b"](" + text("a") + b"Ne") * 10000
        + b"eq\x00"
        + b"ccollections\nOrderedDict\nh\x00\x85R" * 1000
        + b"t",
    ),
    "one content, for a thousand arrays": state(
        text("a"),
        b"("
        + data(ONE)
        + b"q\x00"
        + array(b"J" + struct.pack("<i", MEBIBYTE // 4) + b"\x85", dtype("f4", ">"), b"h\x00") * 1000
        + b"t",
    ),
    "a thousand scalars of text": state(
        text("a"),
        b"(U\x01aq\x00" + (b"cnumpy.core.multiarray\nscalar\n" + dtype("i1") + b"h\x00\x86R") * 1000 + b"t",
    ),
    "a state of many parts": state(
        text("a"),
        b"((" + b"N" * 100000 + b"tq\x00" + (b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87Rh\x00b") * 5000 + b"t",
    ),
    "one part, named again and again": state(
        text("p0"),
        array(b"J" + struct.pack("<i", MEBIBYTE // 4) + b"\x85", dtype("f4"), data(ONE)) + b"q\x05",
        *(opcodes for i in range(1, 1000) for opcodes in (text(f"p{i}"), b"h\x05")),
        text("UnpackBigParamInfor@@"),
        b"}"
        + text("w")
        + b"}"
        + text("slices")
        + b"]("
        + b"".join(text(f"p{i}") for i in range(1000))
        + b"es"
        + text("OriginShape")
        + b"J"
        + struct.pack("<i", 250 * MEBIBYTE)
        + b"\x85ss",
    ),
    "one part, twice": state(
        text("p"),
        array(b"K\x01\x85", dtype("i1"), data(b"a")),
        text("UnpackBigParamInfor@@"),
        b"}" + text("w") + b"}" + text("slices") + b"](" + text("p") * 2 + b"es" + text("OriginShape") + b"K\x02\x85ss",
    ),
    "parts of a shape that is none": state(
        text("p"),
        array(b"K\x01\x85", dtype("i1"), data(b"a")),
        text("UnpackBigParamInfor@@"),
        b"}"
        + text("w")
        + b"}"
        + text("slices")
        + b"]("
        + text("p")
        + b"es"
        + text("OriginShape")
        + b"J"
        + b"\x7f" * 4
        + b"J"
        + b"\x7f" * 4
        + b"\x86ss",
    ),
    "an array of no file's size": state(text("a"), array(b"J" + b"\x7f" * 4 + b"\x85", dtype("f8"), data(b""))),
    "an array of nothing, in many rows": state(
        text("a"), array(b"K\x00" + b"\x8a\x1f" + b"\x7f" * 31 + b"\x86", dtype("f8"), data(b""))
    ),
    "a hundred dimensions": state(text("a"), array(b"(" + b"K\x01" * 100 + b"t", dtype("i1"), data(b"a"))),
}


# Unusual files that are valid.
HARMLESS = {
    *("tuples of the same two tuples", "a large number in the memo", "a frame of no file's length"),
    "a thousand scalars of text",
}

EMPTY = b"ccollections\nOrderedDict\n)R"
FORGED = {
    "a dtype of objects": state(  # the file sets its pointers, which once crashed the process
        text("a"),
        array(
            b"K\x01\x85",
            EMPTY
            + (b"}" + text("numpy") + EMPTY)
            + (text("names") + b"]" + text("x") + b"as" + text("formats") + b"]" + text("O") + b"as")
            + (b"}" + text("isnative") + b"\x88sbsb"),
            data(b"A" * 8),
        ),
    ),
    "an array": state(text("a"), b"ccollections\nOrderedDict\n)R}" + text("values") + b"K\x01sb"),
    "an array, filled twice": state(
        text("a"),
        array(b"K\x01\x85", dtype("i1"), data(b"a")) + b"(K\x01K\x01\x85" + dtype("i1") + b"\x89" + data(b"b") + b"tb",
    ),
    "an array without values": state(text("a"), RECONSTRUCT),
    "a dtype's flags": state(
        text("a"), array(b"K\x01\x85", dtype("i8").replace(b"K\x00tb", b"K\x03tb"), data(b"A" * 8))
    ),
    "a size of a dtype": state(
        text("a"), array(b"K\x01\x85", dtype("i1").replace(b"NNNJ" + b"\xff" * 4, b"NNNK\x08"), data(b"a"))
    ),
    "a byte order": state(text("a"), array(b"K\x01\x85", dtype("i8", "S"), data(b"A" * 8))),
    "a shape below zero": state(
        text("a"), array(b"J" + b"\xff" * 4 + b"J" + b"\xff" * 4 + b"\x86", dtype("i1"), data(b"a"))
    ),
    "a shape of truths": state(text("a"), array(b"\x88\x85", dtype("i1"), data(b"a"))),
    "a dictionary with numbers for names": b"\x80\x02}K\x01Ns.",
    "a name in place of a value": state(text("a"), b"cnumpy\nndarray\n"),
    "a dtype in place of a value": state(text("a"), dtype("f4")),
    "no dictionary": b"\x80\x02" + text("a") + b".",
    "nothing": b"\x80\x02.",
}


@pytest.fixture
def load(fuzz, tmp_path):
    """Read bytes as weights: the arrays' dictionary or the sentence, in seconds and little memory."""

    def read(content, seconds=10, memory=0):
        path = tmp_path / "w.pdparams"
        path.write_bytes(content)
        before = fuzz.contents(tmp_path)
        tracemalloc.start()
        try:
            with fuzz.in_seconds(seconds), warnings.catch_warnings():
                warnings.simplefilter("error")
                found = weights.load_state(str(path))
        except ValueError as error:
            found = str(error)
            assert len(found) < 600 and found.isprintable() and str(path) in found
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEBIBYTE + 10 * len(content) + memory
        assert fuzz.contents(tmp_path) == before
        return found

    return read


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(load, bomb):
    found = load(BOMBS[bomb], seconds=30, memory=200 * MEBIBYTE)
    assert isinstance(found, dict) == (bomb in HARMLESS), found if isinstance(found, str) else bomb


@pytest.mark.parametrize("name", FORGED)
def test_false_tensors_are_refused(load, name):
    assert isinstance(load(FORGED[name]), str)


def test_endless_opcodes(load, monkeypatch):
    monkeypatch.setattr(pickles, "_STEPS", 10000)
    assert "10000 opcodes" in load(b"\x80\x02(" + b"N" * 10000 + b"t.")


def test_false_length(load):
    """Memory is bounded by the file's size, whatever length it states."""
    for code in (b"B\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"T\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 6 + b"\0\0"):
        assert "expected" in load(b"\x80\x04" + code + b"a.")


REAL = [
    lambda: {
        "w": np.arange(6, dtype="float32").reshape(2, 3),
        "b": np.ones(1, ">f8"),
        "F": np.ones((2, 3), "int8", "F"),
    },
    lambda: OrderedDict(a=np.array(True), b=np.float64(0.5), c=[1, (2.5, None)], d={"x": {"y"}}),
    lambda: {"w": ("name", np.arange(3, dtype="float16")), "e": np.zeros((0, 3)), "n": {"deep": [("n", np.ones(1))]}},
    lambda: {
        "a@@.0": np.arange(3.0),
        "a@@.1": np.arange(3.0),
        "UnpackBigParamInfor@@": {"a": {"OriginShape": (2, 3), "slices": ["a@@.0", "a@@.1"]}},
        "StructuredToParameterName@@": {"a": "linear_0.w_0"},
    },
    lambda: {
        "w": np.ones(2, "complex64"),
        "big": 2**40,
        "minus": -3,
        "flag": True,
        "text": "\u4e2d",
        "bytes": b"\xff\x00",
    },
]
FILES = [pickle.dumps(make(), protocol=protocol) for make in REAL for protocol in (2, 3, 4)]


def opcodes(content):
    starts = [position for _, _, position in pickletools.genops(content)]
    return [content[start:end] for start, end in zip(starts, [*starts[1:], None])]


HOSTILE = [
    *(
        b"N",
        b")",
        b"]",
        b"}",
        b"(",
        b"\x88",
        b"J\xff\xff\xff\x7f",
        b"J\xff\xff\xff\xff",
        b"K\x00",
        b"K\x08",
        b"\x8a\x08" + b"\x7f" * 8,
    ),
    *(
        b"h\x00",
        b"h\x01",
        b"h\x05",
        b"q\x00",
        b"\x94",
        b"R",
        b"b",
        b"s",
        b"u",
        b"a",
        b"e",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"0",
        b"2",
    ),
    *(
        text("O"),
        text("O8"),
        text("V8"),
        text(">"),
        text("f4"),
        text("f8"),
        text("latin1"),
        text("data"),
        data(b"A" * 8),
    ),
    *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cbuiltins\neval\n"),
    *(b"ccollections\nOrderedDict\n", b"c__builtin__\nset\n", b"c__builtin__\ntuple\n", b"c_codecs\nencode\n"),
    *(b"cnumpy.core.multiarray\nscalar\n", b"cos\nsystem\n", b"\x93", b"\x81", b"G" + struct.pack(">d", float("nan"))),
    *(
        text("UnpackBigParamInfor@@"),
        text("StructuredToParameterName@@"),
        text("slices"),
        text("w"),
        NESTED,
        dtype("f4"),
    ),
]


@st.composite
def changed(draw, content, pool):
    """A file with bytes changed; with a pool of opcodes, also with some removed, doubled, moved or replaced."""
    parts, pool = (opcodes(content), pool) if pool else ([bytes([byte]) for byte in content], BYTES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(parts) - 1))
        end = at + draw(st.integers(0, 3))
        parts[at:end] = draw(
            st.one_of(st.lists(st.sampled_from(pool), max_size=3), st.just(parts[at:end] * 2), st.just(parts[-1:]))
        )
        parts = parts or [b"."]
    return b"".join(parts)


BYTES = [bytes([byte]) for byte in range(256)]


@st.composite
def mutated(draw):
    pool = draw(st.sampled_from([None, HOSTILE + opcodes(draw(st.sampled_from(FILES)))]))
    return draw(changed(draw(st.sampled_from(FILES)), pool))


@pytest.mark.parametrize("content", FILES)
def test_real_weights_are_read(load, content):
    assert isinstance(load(content), dict)


@given(content=mutated())
def test_mutated_files(load, content):
    found = load(content)
    event("read" if isinstance(found, dict) else "refused" if "want to call" in found else "damaged")
    if isinstance(found, dict):
        assert size(found, set()) <= 2 * len(content)
        assert all(type(name) is str for name in found)


def size(value, seen):
    """The bytes of all arrays in a state; fails on values other than those that `load_state` promises."""
    assert type(value) in (
        dict,
        OrderedDict,
        list,
        tuple,
        set,
        str,
        bytes,
        bool,
        int,
        float,
        type(None),
        np.ndarray,
    ) or (isinstance(value, np.generic))
    if isinstance(value, (np.ndarray, np.generic)):
        assert value.dtype.kind in "biufc"
        return value.nbytes
    if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
        return 0
    seen.add(id(value))
    return sum(size(item, seen) for item in (value.values() if isinstance(value, dict) else value))


# PyTorch's and safetensors' checkpoints, which `bisenetv1 convert` reads.


def torch_file(make, **keywords):
    torch = pytest.importorskip("torch")
    content = io.BytesIO()
    torch.save(make(torch), content, **keywords)
    return content.getvalue()


def repacked(content, change=lambda name, part: part, compression=zipfile.ZIP_STORED):
    """PyTorch's archive with its parts changed."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return changed.getvalue()


def ordinary(torch):
    weights = {"module.conv.weight": torch.ones(2, 3), "module.bn.num_batches_tracked": torch.tensor(3)}
    return {"state_dict": {**weights, "module.half": torch.ones(2).half()}, "epoch": 3}


CHECKPOINTS = {
    "parameters": lambda: torch_file(lambda torch: {"a": torch.nn.Parameter(torch.ones(2))}),
    "sparse": lambda: torch_file(lambda torch: {"a": torch.eye(2).to_sparse()}),
    "without values": lambda: torch_file(lambda torch: {"a": torch.ones(2, device="meta")}),
    "quantized": lambda: torch_file(lambda torch: {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
    "conjugate": lambda: torch_file(lambda torch: {"a": torch.ones(2, dtype=torch.complex64).conj()}),
    "nested": lambda: torch_file(lambda torch: {"a": torch.nested.nested_tensor([torch.ones(2)])}),
    "one value, expanded": lambda: torch_file(lambda torch: {"a": torch.ones(1).expand(20000, 20000)}),
    "one tensor, a thousand names": lambda: torch_file(
        lambda torch: dict.fromkeys(map(str, range(1000)), torch.ones(10**6))
    ),
    "numbers for names": lambda: torch_file(lambda torch: {1: torch.ones(2)}),
    "a name that a terminal obeys": lambda: torch_file(lambda torch: {"\x1b[2J": torch.ones(2)}),
    "compressed": lambda: repacked(
        torch_file(lambda torch: {"a": torch.zeros(10**6)}), compression=zipfile.ZIP_DEFLATED
    ),
    "a call": lambda: repacked(
        torch_file(ordinary),
        lambda name, part: b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R." if name.endswith("data.pkl") else part,
    ),
    "nothing": lambda: b"",
}


@pytest.fixture
def read(fuzz, tmp_path):
    """Read bytes as a checkpoint: its arrays or the sentence."""
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from bisenetv1_plugin.convert import checkpoint

    def read(content, name="w.pth"):
        path = tmp_path / name
        path.write_bytes(content)
        before = fuzz.contents(tmp_path)
        try:
            with fuzz.in_seconds(10), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # from PyTorch's own functions
                found = checkpoint.read(str(path))
            assert sum(values.nbytes for values in found.values()) <= 8 * len(content)
        except ValueError as error:
            found = str(error)
            assert len(found) < 1000 and found.isprintable() and str(path) in found
        assert fuzz.contents(tmp_path) == before
        return found

    return read


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(read, name):
    found = read(CHECKPOINTS[name]())
    assert isinstance(found, dict) == (name == "parameters"), found


@st.composite
def mutated_checkpoints(draw):
    form = draw(st.sampled_from(["safetensors", "legacy", "archive", "opcodes"]))
    if form == "safetensors":
        tensors = {"conv.weight": np.ones((2, 3), "float32"), "half": np.ones(2, "float16")}
        return "w.safetensors", draw(changed(pytest.importorskip("safetensors.numpy").save(tensors), None))
    if form == "opcodes":
        content = torch_file(ordinary)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            own = opcodes(archive.read("archive/data.pkl"))
        new = draw(changed(b"".join(own), own + HOSTILE))
        return "w.pth", repacked(content, lambda name, part: new if name.endswith("data.pkl") else part)
    return "w.pth", draw(changed(torch_file(ordinary, _use_new_zipfile_serialization=form == "archive"), None))


@given(file=mutated_checkpoints())
def test_mutated_checkpoints(read, file):
    name, content = file
    event("read" if isinstance(read(content, name), dict) else "refused")


def test_real_checkpoints_are_read(read):
    for archive in (True, False):
        found = read(torch_file(ordinary, _use_new_zipfile_serialization=archive))
        assert list(found) == ["conv.weight", "bn.num_batches_tracked", "half"] and found["half"].dtype == "float32"


HEAD = "heads.2.conv_1x1.weight"
IMPOSSIBLE = {
    "a head without dimensions": (HEAD, ()),
    "more classes than can be": (HEAD, (10**12, 0, 1, 1)),
    "an auxiliary head without dimensions": ("heads.0.conv_1x1.weight", (1,)),
    "a stem without dimensions": ("backbone.conv1.conv1.weight", ()),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_conversion_of_impossible_shapes(fuzz, case):
    """No network of that size is built."""
    from bisenetv1_plugin.convert import conversion

    name, shape = IMPOSSIBLE[case]
    # The names of a network of 18 layers; a file may give them any shape.
    names = ["ffm.channel_attention.3.weight", "spatial_path.conv_7x7._conv.weight", "heads.0.conv_1x1.weight", HEAD]
    names += [f"backbone.layer3.{block}.conv1.weight" for block in range(2)]
    state = {**dict.fromkeys(names, np.zeros((1, 1, 1, 1), "float32")), name: np.zeros(shape, "float32")}
    with fuzz.in_seconds(60), pytest.raises(ValueError):
        conversion.to_torch(state)
