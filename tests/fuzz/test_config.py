"""Configurations: any error in the file or in --opts is reported in a sentence, before any work."""

import copy
import functools
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st
from paddleseg.cvlibs import manager

from bisenetv1_plugin import zoo
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.training import builder

PARTS = ("train_dataset", "val_dataset", "loss", "lr_scheduler", "model", "optimizer")
SHIPPED = sorted(path.stem for path in zoo.folder().glob("*.yml"))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder with a few scenes, their configuration `config.yml`, and files that no configuration may read."""
    folder = tmp_path_factory.mktemp("config")
    write_scenes(folder / "data", train=4, val=2, size=(48, 32), classes=DEMO_CLASSES)
    (folder / "config.yml").write_text(yaml.safe_dump(small(folder)))
    os.mkfifo(folder / "pipe.yml")
    (folder / "folder.yml").mkdir()
    return folder


def small(folder):
    """The demo's configuration with those scenes, and a backbone that is built quickly."""
    dic = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    dic["model"]["backbone"] = {"type": TinyBackbone.__name__, "in_channels": 3}
    dic["train_dataset"].update(dataset_root=str(folder / "data"), train_path=str(folder / "data/train.txt"))
    dic["val_dataset"].update(dataset_root=str(folder / "data"), val_path=str(folder / "data/val.txt"))
    dic["test_config"] = {"is_slide": True, "crop_size": [32, 32], "stride": [32, 32]}
    return dic


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone():
    manager.BACKBONES.add_component(TinyBackbone)
    yield
    del manager.BACKBONES.components_dict[TinyBackbone.__name__]


def _tiny_backbone():
    import paddle

    class TinyBackbone(paddle.nn.Layer):
        feat_channels = [4, 4, 4]

        def __init__(self, in_channels=3, pretrained=None):
            super().__init__()
            strides = (8, 2, 2)
            self.convs = paddle.nn.LayerList(
                [paddle.nn.Conv2D(in_channels if s == 8 else 4, 4, 3, s, 1) for s in strides]
            )

        def forward(self, x):
            features = []
            for conv in self.convs:
                x = conv(x)
                features.append(x)
            return features

    return TinyBackbone


TinyBackbone = _tiny_backbone()


def build_all(path, opts=None):
    """Open a configuration as every command does, and build everything but the training."""
    build = builder.Builder(builder.load_config(str(path), opts, needs=["train_dataset", "val_dataset"]))
    for part in PARTS:
        getattr(build, part)


def test_unchanged_configuration(sandbox):
    build_all(sandbox / "config.yml")
    build_all(sandbox / "config.yml", ["batch_size=2", "test_config.scales=0.75,1.0", "lr_scheduler.learning_rate=0.1"])
    for name in SHIPPED:
        builder.load_config(str(zoo.path_of(name)))


@functools.lru_cache(maxsize=None)
def shipped(name):
    return builder.load_config(str(zoo.path_of(name))).dic


HOSTILE = st.one_of(
    st.sampled_from(
        [
            *(None, True, 0, -1, 1, 2, 255, 256, 257, 10**9, 2**63, -(2**70), 0.5, 1e308, -0.0, 80000.0),
            *(float("nan"), float("inf"), "", "abc", "2", "1e-3", "a\0b", "\ud800", "/dev/zero", "..", "中" * 90),
            *([], [1], [1, 1], [[]], {}, {"type": "Normalize"}, {"type": None}, {"type": "Nothing"}, {"a": {"b": []}}),
            *("SGD", "BiSeNetV1", "BiSeNetV1Loss", "Dataset", "Cityscapes", "MixedLoss", "ResNet18_v1b", "numpy"),
        ]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
SEEDS = st.integers(0, 2**32)


def places(value, above=()):
    """The keys of a value in a configuration, and those of the values inside it."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*above, key))


@st.composite
def mutations(draw, dic):
    """The configuration with some values replaced, dropped, added or moved."""
    dic = copy.deepcopy(dic)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(places(dic))[1:] or [("a",)]))
        inner = dic
        for key in place[:-1]:
            inner = inner[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "drop", "add", "copy"]))
        if how == "replace":
            inner[place[-1]] = copy.deepcopy(draw(HOSTILE))
        elif how == "drop" and place[-1] in (inner if isinstance(inner, dict) else range(len(inner))):
            del inner[place[-1]]
        elif how == "add" and isinstance(inner, dict):
            key = draw(st.one_of(st.text(max_size=6), st.sampled_from(["num_classes", "pretrained", "_inherited_"])))
            inner[key] = copy.deepcopy(draw(HOSTILE))
        elif how == "copy":
            other = draw(st.sampled_from(list(places(dic))))
            found = dic
            for key in other:
                found = found[key]
            inner[place[-1]] = copy.deepcopy(found)
    return dic


@st.composite
def broken_text(draw, text):
    """The file's bytes cut, flipped or spliced with pieces of YAML."""
    content = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        how = draw(st.sampled_from(["cut", "flip", "splice", "splice"]))
        if how == "cut":
            content = content[:at]
        elif how == "flip" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        else:
            content[at:at] = draw(st.sampled_from(PIECES))
    return bytes(content)


PIECES = [
    *(b"\0", b"\xff", b"\t", b": ", b"- ", b"\n", b"{", b"]", b"&a ", b"*a ", b"<<: *a\n", b"!!python/name:os.system "),
    *(b"!!python/object/apply:os.system [true]\n", b"!!binary aGk=", b"? [a]\n", b"!!set {a}", b"---\n", b"2001-13-45"),
    *(
        b"_base_: config.yml\n",
        b"_base_: [pipe.yml]\n",
        b"_base_: folder.yml\n",
        b"_base_: /dev/zero\n",
        b"_base_: 3\n",
    ),
    *(b"[" * 3000, b"0x" + b"f" * 9000, b"9" * 5000, b'"\\ud800"', b"\xef\xbb\xbf", b"iters: &a [*a]\n", b"1:" * 500),
    b"x: &x [0,0]\ny: &y [*x,*x,*x,*x,*x,*x]\nz: &z [*y,*y,*y,*y,*y,*y]\nq: [*z,*z,*z]\n",
]


def dumped(dic):
    try:
        return yaml.dump(dic, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))  # ten times as fast
    except UnicodeEncodeError:  # it cannot write half of a UTF-16 pair
        return yaml.safe_dump(dic)


def survives(sandbox, fuzz, run):
    """It ends or is refused in one sentence, in time and without changing a file."""
    before = fuzz.contents(sandbox)
    with fuzz.in_seconds(20):
        try:
            run()
            event("done")
        except InputError as error:
            event("refused")
            sentence = str(error)
            assert sentence and "\n" not in sentence and "Traceback" not in sentence
            sentence.encode("utf-8")
    assert fuzz.contents(sandbox) == before


@given(st.data())
def test_values(sandbox, fuzz, data):
    dic = data.draw(mutations(small(sandbox)))
    path = sandbox.parent / "values.yml"
    path.write_text(dumped(dic))
    survives(sandbox, fuzz, lambda: build_all(path))


@given(st.data())
def test_text(sandbox, fuzz, data):
    path = sandbox / "text.yml"
    path.write_bytes(data.draw(broken_text((sandbox / "config.yml").read_text())))
    survives(sandbox, fuzz, lambda: build_all(path))


@given(name=st.sampled_from(SHIPPED), data=st.data())
def test_shipped(sandbox, fuzz, name, data):
    """With or without their `_base_`, and without their data."""
    dic = data.draw(mutations(shipped(name)))
    path = sandbox.parent / "shipped.yml"
    base = data.draw(st.sampled_from([{"_base_": str(zoo.path_of(name))}, {}]))
    path.write_text(dumped({**base, **dic}))
    survives(sandbox, fuzz, lambda: builder.load_config(str(path)))


@given(st.data())
def test_opts(sandbox, fuzz, data):
    keys = st.one_of(st.sampled_from([".".join(map(str, place)) for place in places(small(sandbox))]), st.text())
    items = st.tuples(keys, st.one_of(HOSTILE.map(repr), st.text(), st.sampled_from(["(" * 300, "-" * 9000 + "1"])))
    opts = data.draw(st.lists(st.one_of(items.map("=".join), st.text()), min_size=1, max_size=3))
    survives(sandbox, fuzz, lambda: build_all(sandbox / "config.yml", opts))


# Each of these once caused a traceback, or no error.
WRONG = [
    ("iters: 0", "iters must be a whole number of at least 1, not 0"),
    ("iters: abc", "iters must be a whole number of at least 1, not abc"),
    ("iters: .nan", "iters must be a whole number of at least 1, not nan"),
    ("batch_size: 0", "batch_size must be a whole number"),
    ("batch_size: [4]", r"batch_size must be a whole number of at least 1, not \[4\]"),
    ("model: []", r"model must have a type, which names a component, not be \[\]"),
    ("model: {type: BiSeNetV1, num_classes: 5, backbone: x}", "model.backbone must have a type"),
    ("model: {num_classes: 0}", "model.num_classes must be a whole number from 1 to 256, not 0"),
    ("model: {num_classes: -1}", "model.num_classes must be a whole number"),
    ("model: {num_classes: '2'}", "model.num_classes must be a whole number from 1 to 256, not '2'"),
    ("model: {num_classes: 1000000000}", "labels and masks have 8 bits: 256 classes at most"),
    ("model: {num_classes: 300}", "model.num_classes is 300; labels and masks have 8 bits"),
    ("model: {backbone: {in_channels: 1000000000}}", "model.backbone.in_channels must be a whole number from 1 to"),
    ("model: {backbone: {pretrained: pipe.yml}}", "model.backbone.pretrained must be the path of a file, and"),
    ("loss: 3", "loss must have types and coef, not be 3"),
    ("loss: {coef: [a, b, c]}", "loss.coef must be a number, not a"),
    ("loss: {coef: [1, .nan, 1]}", "loss.coef must be a number, not nan"),
    ("loss: {coef: 3}", "loss.coef must be a list of numbers"),
    ("loss: {types: [BiSeNetV1Loss]}", "loss.types must have a type"),
    ("train_dataset: x", "train_dataset must have a type"),
    ("val_dataset: null", "val_dataset must have a type"),
    ("train_dataset: {train_path: pipe.yml}", "train_dataset.train_path must be the path of a file"),
    ("val_dataset: {val_path: /dev/zero}", "val_dataset.val_path must be the path of a file"),
    ("train_dataset: {transforms: Normalize}", "train_dataset.transforms must be a list of components"),
    ("lr_scheduler: {learning_rate: .nan}", "lr_scheduler.learning_rate must be a finite number, not nan"),
    ("lr_scheduler: {learning_rate: 1e-3}", "write 1.0e-3 or 0.001, because YAML reads 1e-3 as text"),
    ("lr_scheduler: {learning_rate: -1}", "lr_scheduler.learning_rate must be a number of at least 0"),
    ("optimizer: {weight_decay: .inf}", "optimizer.weight_decay must be a finite number"),
    ("test_config: {crop_size: 3}", "test_config.crop_size must be a width and a height"),
    ("test_config: {sclaes: [1]}", "test_config.sclaes is unknown to PaddleSeg's evaluation"),
    ("test_config: null", "test_config must hold keys with values"),
    ("_base_: wrong.yml", "wrong.yml is a _base_ of itself"),
    ("_base_: folder.yml", "there is no file .*folder.yml, which .*wrong.yml names as its _base_"),
    ("_base_: pipe.yml", "there is no file .*pipe.yml"),
    ("_base_: 3", "must be a path or a list of paths, not 3"),
    ("_base_: config.yml\nbatch_size: {a: 1}", "a key holds other keys in .*wrong.yml, but not in .*config.yml"),
    ("k0: &k0 [0]\n" + "".join(f"k{n}: &k{n} [{f'*k{n - 1}, ' * 9}]\n" for n in range(1, 9)), "aliases expanded"),
    ("a: &a [*a]", "an alias contains itself"),
    ("a: !!python/object/apply:os.system [id]", "is not YAML with plain values"),
    ("a: !!python/name:os.system", "is not YAML with plain values"),
    ("a: " + "[" * 5000, "its values are nested too deeply|is not YAML"),
    ("a: 0x" + "f" * 40, "a is a number of more than 64 bits"),
    ("- 1", r"wrong.yml must hold keys with values, not \[1\]"),
    ("", "wrong.yml must hold keys with values, not None"),
]  # fmt: skip


@pytest.mark.parametrize("text, sentence", WRONG, ids=[text[:40] for text, _ in WRONG])
def test_wrong_values(sandbox, monkeypatch, fuzz, text, sentence):
    """Added to the small configuration; the error names the file and the key."""
    monkeypatch.chdir(sandbox)
    own = yaml.safe_load(text) if text.partition(":")[0] in PARTS + ("iters", "batch_size", "test_config") else None
    text = text if own is None else yaml.safe_dump({"_base_": "config.yml", **own})
    Path("wrong.yml").write_text(text)
    with fuzz.in_seconds(10), pytest.raises(InputError, match=sentence) as caught:
        build_all("wrong.yml")
    assert "wrong.yml" in str(caught.value) and "\n" not in str(caught.value)


def test_more_classes_than_a_mask_can_hold(sandbox):
    """A dataset that reads its labels itself may train with more, as upstream's PSSLDataset does."""
    path = sandbox.parent / "many.yml"
    dic = small(sandbox)
    dic["model"]["num_classes"] = 1001
    dic["train_dataset"] = {"type": "PSSLDataset", "imagenet_root": "none", "pssl_root": "none", "transforms": []}
    del dic["val_dataset"]
    path.write_text(yaml.safe_dump(dic))
    with pytest.raises(InputError, match="num_classes is 1001; labels and masks have 8 bits: 256 classes at most"):
        builder.open_network(path, "none")


def test_not_a_configuration_file(sandbox, fuzz):
    for path in (sandbox / "folder.yml", sandbox / "pipe.yml", "/dev/zero", sandbox / "absent.yml"):
        with fuzz.in_seconds(5), pytest.raises(InputError, match="there is no configuration"):
            build_all(path)
    path = sandbox.parent / "bytes.yml"
    path.write_bytes(b"iters: 3\nname: \xe4\n")
    with pytest.raises(InputError, match="bytes.yml is not UTF-8 at byte 15: save it as UTF-8"):
        build_all(path)
    path.write_bytes(b"# a\n" * 100_000)
    with pytest.raises(InputError, match="is larger than 65536 bytes"):
        build_all(path)


@pytest.mark.parametrize("name", ["train", "val", "predict", "export", "quantize"])
def test_every_command_refuses_in_a_sentence(sandbox, monkeypatch, capsys, name):
    monkeypatch.chdir(sandbox)
    Path("wrong.yml").write_text("_base_: config.yml\niters: 0\n")
    image = next(Path("data/images/val").iterdir())
    more = {"train": [], "predict": ["--model_path", "none", "--image_path", str(image)]}
    arguments = more.get(name, ["--model_path", "none"])
    assert main([name, "--config", "wrong.yml", *arguments]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "wrong.yml cannot be used: iters must be" in said


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--learning_rate", "nan"], ["--learning_rate", "0"], ["--learning_rate", "-1"], ["--learning_rate", "inf"]),
        *(["--seed", "-1"], ["--seed", str(2**32)], ["--seed", "x"], ["--iters", "0"], ["--batch_size", "0"]),
        *(["--save_interval", "0"], ["--early_stop_intervals", "0"], ["--opts", "batch_size=0"], ["--opts", "iters"]),
        *(["--opts", "a.b=1"], ["--opts", "=1"], ["--opts", "iters.a=1"], ["--opts", "loss.coef=[1,1]"]),
        *(["--opts", "model.num_classes=300"], ["--opts", "loss.coef=[nan]"], ["--opts", "iters=" + "(" * 300]),
        *(["--profiler_options", "x"], ["--resume_model", "/dev/zero"], ["--save_dir", "config.yml"]),
        *(["--early_stop_intervals", "1"], ["--num_workers", "-1"], ["--keep_checkpoint_max", "0"]),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_train_refuses_before_any_work(sandbox, monkeypatch, capsys, fuzz, arguments):
    monkeypatch.chdir(sandbox)
    before = fuzz.contents(sandbox)
    words = ["train", "--config", "config.yml", "--device", "cpu", "--iters", "1", "--save_dir", "refused", *arguments]
    try:
        code = main(words)
    except SystemExit as end:  # argparse's
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and "Traceback" not in said and ("bisenetv1 train: " in said or "bisenetv1: " in said)
    assert fuzz.contents(sandbox) == before and not Path("refused").exists()
