"""Training, step by step, against PyTorch: the shipped configurations, as PaddleSeg builds them, in float64.

What is compared is the loss of each head in every step and, after the last, how far every tensor has moved: weights by
group of the optimizer, and BatchNorm's statistics. How near is near is measured as well: the same PyTorch training, its
weights disturbed by a billionth, goes as far from itself.
"""

import importlib.util
from pathlib import Path

import numpy as np
import paddle
import pytest

torch = pytest.importorskip("torch")

from paddleseg.core.train import loss_computation  # noqa: E402
from paddleseg.cvlibs import Config, SegBuilder  # noqa: E402

from bisenetv1_plugin import zoo  # noqa: E402
from bisenetv1_plugin.convert import conversion  # noqa: E402
from bisenetv1_plugin.losses import ohem  # noqa: E402
from bisenetv1_plugin.models.variants import VARIANTS  # noqa: E402


def _beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trainings = _beside("trainings")
network = _beside("pytorch_network")
references = trainings.references

CLASSES = references.CLASSES
STEPS = 3
BATCH = 4
CROP = (32, 64)
DISTURBANCE = 1e-9
EXACT = 1e-10  # of the first step's losses
STATISTICS = {"_mean": "running mean", "_variance": "running variance"}


def beyond_the_backbone(name):
    return not name.startswith("backbone.")


def ffm_and_heads(name):
    return name.startswith(("ffm.", "heads.", "conv_out"))


def _mmseg(depth=18):
    module = references.build(f"mmseg-r{depth}").double()
    folder = Path(importlib.util.find_spec("mmseg").origin).parent / ".mim/configs/bisenetv1"
    return trainings.mmsegmentation(module, folder, f"bisenetv1_r{depth}-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024")


def _our_network(variant):
    torch.manual_seed(0)
    module = network.BiSeNetV1(CLASSES, VARIANTS[variant])
    references.look_trained(torch, module)
    return module.double()


def _torchseg(kind):
    name = f"torchseg-{kind.replace('.', '-').lower()}"
    return trainings.torchseg(references.build(name).double(), kind, CROP, BATCH)


def _zllrunning():
    torch.manual_seed(0)
    training = trainings.zllrunning(CROP, BATCH)
    references.look_trained(torch, training.module)
    training.module.double()
    return training


def valid_sixteenth(label):
    return int((label != trainings.IGNORED).sum()) // 16


# What it is -> (the configuration, PyTorch's training, iteration to begin with: after the warm-up)
RESTATED = {
    "torchseg R18.speed": (
        "bisenetv1_r18_speed_cityscapes_1536x768_80k",
        lambda: trainings.restated(_our_network("torchseg_speed"), beyond_the_backbone, 0.01, 5e-4, 80000, coarse=8),
        0,
    ),
    "coincheung": (
        "bisenetv1_coincheung_cityscapes_1024x1024_80k",
        lambda: trainings.restated(
            _our_network("coincheung"), ffm_and_heads, 0.01, 5e-4, 80000, warmup=1000, least=valid_sixteenth
        ),
        40000,
    ),
    "zllrunning": (
        "bisenetv1_zllrunning_faces_448x448_80k",
        lambda: trainings.restated(
            references.build("zllrunning").double(), ffm_and_heads, 0.01, 5e-4, 80000, warmup=1000
        ),
        40000,
    ),
    "mmseg R18": ("bisenetv1_mmseg_r18_cityscapes_1024x1024_160k", _mmseg, 2000),
    "torchseg R18": (
        "bisenetv1_cityscapes_1024x1024_80k",
        lambda: trainings.restated(_our_network("torchseg"), beyond_the_backbone, 0.01, 5e-4, 80000),
        0,
    ),
}

ORIGINAL = {
    "torchseg R18": ("bisenetv1_cityscapes_1024x1024_80k", lambda: _torchseg("R18"), 0),
    "torchseg R18.speed": ("bisenetv1_r18_speed_cityscapes_1536x768_80k", lambda: _torchseg("R18.speed"), 0),
    "torchseg X39": ("bisenetv1_x39_cityscapes_1024x1024_140k", lambda: _torchseg("X39"), 130000),
    "torchseg X39.speed": ("bisenetv1_x39_speed_cityscapes_1536x768_140k", lambda: _torchseg("X39.speed"), 130000),
    "coincheung": (
        "bisenetv1_coincheung_cityscapes_1024x1024_80k",
        lambda: trainings.coincheung(references.build("coincheung").double(), "city"),
        40000,
    ),
    "zllrunning": ("bisenetv1_zllrunning_faces_448x448_80k", _zllrunning, 40000),
    "torchseg R101": ("bisenetv1_r101_cityscapes_1024x1024_80k", lambda: _torchseg("R101"), 70000),
    "mmseg R50": ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k", lambda: _mmseg(50), 150000),
}


def marked(cases):
    """The names; a minute each, so that only the authors' own is in the default suite."""
    return [pytest.param(name, marks=[pytest.mark.very_slow] * (name != "torchseg R18")) for name in cases]


def to_ours(tensors):
    """PyTorch's tensors by our names: our own network has them but for BatchNorm's statistics."""
    if "ffm.conv_1x1._conv.weight" not in tensors:
        return conversion.to_paddle(tensors).state
    renamed = {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for name, value in tensors.items()
    }
    return {name: value for name, value in renamed.items() if not name.endswith("num_batches_tracked")}


def example(training):
    """Images, and labels of class 0, which the network is made sure of; a few of any class, a few and a frame ignored.

    So the pixels that the loss keeps at least, a sixteenth, are more than the hard ones.
    """
    module = training.module.train()
    image = torch.from_numpy(references.images(BATCH, CROP, seed=2).astype("float64"))
    random = np.random.RandomState(3)
    chance = random.rand(BATCH, *CROP)
    label = np.where(chance < 0.02, random.randint(0, CLASSES, chance.shape), 0)
    label[chance > 0.93] = trainings.IGNORED
    # Where corners are not aligned, the outermost eight pixels at 1/16 are equal: of ties, CoinCheung keeps some.
    inside = np.zeros(CROP, bool)
    inside[8:-8, 8:-8] = True
    label[:, ~inside] = trainings.IGNORED
    label = torch.from_numpy(label)

    def make_sure(layer, inputs, output):
        layer.weight.data[0] += 3 / inputs[0].sum(1).mean()

    classifiers = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == CLASSES]
    hooks = [layer.register_forward_hook(make_sure) for layer in classifiers]
    statistics = {name: value.clone() for name, value in module.state_dict().items() if "running" in name}
    with torch.no_grad():
        for _ in range(20):
            shares = [share_of_hard(logit, label) for logit in module(image)]
            if max(shares) < 0.055:  # a sixteenth is 0.0625
                break
    assert max(shares) < 0.055, "too many pixels are hard"
    module.load_state_dict(statistics, strict=False)
    for hook in hooks:
        hook.remove()
    return image, label


def share_of_hard(logit, label):
    """The share of the valid pixels whose class has a probability of at most 0.7."""
    label = label[:, :: label.shape[1] // logit.shape[2], :: label.shape[2] // logit.shape[3]]
    loss = torch.nn.functional.cross_entropy(logit, label, ignore_index=trainings.IGNORED, reduction="none")
    return float((loss[label != trainings.IGNORED] >= -np.log(0.7)).double().mean())


def as_in_paddle(module, optimizer=None):
    """What Paddle does otherwise, and this comparison is not about.

    BatchNorm's epsilon and momentum, and SGD's momentum and decay, are single-precision attributes of its operators.
    Its running variance averages the batch's variance, not the n / (n - 1) times larger estimate.
    """
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = single(layer.eps)
            layer.momentum = 1 - single(1 - layer.momentum)
            layer.register_forward_pre_hook(_remember)
            layer.register_forward_hook(_without_correction)


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, **unused):
    """`torch.nn.functional.interpolate` with Paddle's bilinear weights, which it computes in single precision."""
    if not align_corners:  # the other ratios here are powers of two, which single precision holds
        return _interpolate(x, size=size, scale_factor=scale_factor, mode=mode, align_corners=align_corners)
    size = size or [side * scale_factor for side in x.shape[2:]]
    for axis, length in zip((2, 3), size):
        ratio = np.float32(x.shape[axis] - 1) / np.float32(max(length - 1, 1))
        place = ratio * np.arange(length, dtype="float32")
        first = place.astype("int64")
        second = np.minimum(first + 1, x.shape[axis] - 1)
        share = place - first.astype("float32")
        shape = [-1 if side == axis else 1 for side in range(4)]
        weights = [torch.from_numpy(part.astype("float64")).to(x.dtype).reshape(shape) for part in (1 - share, share)]
        parts = [x.index_select(axis, torch.from_numpy(index)) for index in (first, second)]
        x = parts[0] * weights[0] + parts[1] * weights[1]
    return x


_interpolate = torch.nn.functional.interpolate


def _remember(layer, inputs):
    layer.before = layer.running_var.clone()


def _without_correction(layer, inputs, output):
    count = inputs[0].numel() // inputs[0].shape[1]
    kept = (1 - layer.momentum) * layer.before
    layer.running_var = kept + (layer.running_var - kept) * (count - 1) / count


def single(value):
    return float(np.float32(value))


class Steps:
    """What some steps did: `losses[step][head]`, and `moved[step][our name]`, how far a tensor is from its start."""

    def __init__(self, start):
        self.start = start
        self.losses, self.moved = [], []

    def add(self, losses, tensors):
        self.losses.append(np.array([float(loss) for loss in losses]))
        self.moved.append({name: values - self.start[name] for name, values in tensors.items()})


def train_pytorch(training, batch, first, start, disturbance=0.0):
    """Three steps from the weights `start`."""
    training.module.load_state_dict(start)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in training.module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter *= 1 + disturbance * noise
    optimizer, set_rates = training.optimize()
    for group in optimizer.param_groups:
        group.update(momentum=single(group["momentum"]), weight_decay=single(group["weight_decay"]))
    steps = Steps(to_ours(numbers(training.module)))
    training.module.train()
    for iteration in range(first, first + STEPS):
        training.module.zero_grad()
        set_rates(iteration)
        losses = training.losses(*batch)
        sum(losses).backward()
        optimizer.step()
        steps.add(losses, to_ours(numbers(training.module)))
    return steps


def numbers(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


class Ours:
    """A shipped configuration's network, optimizer, schedule and loss, in float64."""

    def __init__(self, name, start=None):
        cfg = Config(str(zoo.path_of(name)))
        cfg.dic["model"]["backbone"].pop("pretrained", None)
        cfg.dic["model"]["num_classes"] = CLASSES
        build = SegBuilder(cfg)
        paddle.set_default_dtype("float64")
        try:
            self.model = build.model
            self.optimizer, self.losses = build.optimizer, build.loss
        finally:
            paddle.set_default_dtype("float32")
        self.schedule = self.optimizer._learning_rate  # as PaddleSeg's `train` takes it
        if start is not None:
            self.model.set_state_dict({key: paddle.to_tensor(value) for key, value in start.items()})
        for head in self.model.heads:
            head.dropout.p = 0  # it would draw other numbers

    def train(self, batch, first, steps):
        """As PaddleSeg's `train` does it."""
        image, label = (paddle.to_tensor(part.numpy()) for part in batch)
        self.schedule.step(first)
        done = Steps(self.numbers())
        self.model.train()
        for _ in range(steps):
            losses = loss_computation(self.model(image), label, None, self.losses)
            sum(losses).backward()
            self.optimizer.step()
            self.schedule.step()
            self.model.clear_gradients()
            done.add(losses, self.numbers())
        return done

    def numbers(self):
        return {name: value.numpy().copy() for name, value in self.model.state_dict().items()}


def groups_of(training):
    """Our name -> the group of PyTorch's optimizer that a parameter is in; and what sets their rates."""
    optimizer, set_rates = training.optimize()
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    names = [name for name, _ in training.module.named_parameters()]
    # The names are told apart by what is in the tensors.
    marked = {name: np.full(value.shape, -1) for name, value in training.module.state_dict().items()}
    for number, (name, parameter) in enumerate(training.module.named_parameters()):
        marked[name] = np.full(parameter.shape, number)
    ours = {name: int(values.flat[0]) for name, values in to_ours(marked).items()}
    parameters = dict(training.module.named_parameters())
    groups = {name: group_of[id(parameters[names[number]])] for name, number in ours.items() if number >= 0}
    return groups, set_rates


def distances(steps, reference, groups):
    """A dict for each step: what is compared -> the largest relative distance of it.

    'loss', and for the tensors of a group the difference as a share of how far the reference has moved.
    """
    found = []
    for step, moved in enumerate(steps.moved):
        worst = {"loss": abs(steps.losses[step] / reference.losses[step] - 1).max()}
        for name, expected in reference.moved[step].items():
            what = {"_mean": "running mean", "_variance": "running variance"}.get(
                name.rpartition(".")[2], groups.get(name)
            )
            distance = np.linalg.norm(moved[name] - expected) / np.linalg.norm(expected)
            worst[what] = max(worst.get(what, 0), distance)
        found.append(worst)
    return found


def label_of(group, base):
    return f"x{group['lr'] / base:.0f}{', decay' if group['weight_decay'] else ''}"


class Pair:
    """A configuration of ours and the training that it repeats, from the same weights, on the same batch."""

    def __init__(self, config, training, first):
        self.config, self.first = config, first
        self.batch = example(training)
        as_in_paddle(training.module)
        start = {name: value.clone() for name, value in training.module.state_dict().items()}
        self.start = to_ours(numbers(training.module))
        groups, set_rates = groups_of(training)
        set_rates(first)
        base = min(group["lr"] for group in groups.values())
        self.groups = {name: label_of(group, base) for name, group in groups.items()}
        self.reference = train_pytorch(training, self.batch, first, start)
        disturbed = train_pytorch(training, self.batch, first, start, DISTURBANCE)
        self.sensitivity = distances(disturbed, self.reference, self.groups)

    def ours(self):
        return Ours(self.config, self.start)

    def distances(self, ours, steps=STEPS):
        return distances(ours.train(self.batch, self.first, steps), self.reference, self.groups)

    def faults(self, found):
        """What is further away than PyTorch is from itself, after weights that differ by a billionth."""
        faults = []
        for step, (worst, allowed) in enumerate(zip(found, self.sensitivity), 1):
            faults += [f"step {step}: {what} {d:.1e}" for what, d in worst.items() if not d <= allowed[what]]
        if not found[0]["loss"] <= EXACT:
            faults.append(f"step 1: loss {found[0]['loss']:.1e}, which is not exact")
        return faults


@pytest.fixture(autouse=True)
def as_in_float64(monkeypatch):
    """Two losses that differ by less than a millionth are a tie to ours, because float32 cannot tell them apart."""
    monkeypatch.setattr(ohem, "_TIE", 1e-13)
    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)


_PAIRS = {}


def pair_of(cases, name):
    key = (cases is RESTATED, name)
    if key not in _PAIRS:
        _PAIRS.clear()  # one at a time: it holds the network a dozen times
        config, make, first = cases[name]
        _PAIRS[key] = Pair(config, make(), first)
    return _PAIRS[key]


def check(name, pair):
    found = pair.distances(pair.ours())
    for step, (worst, allowed) in enumerate(zip(found, pair.sensitivity), 1):
        print(f"{name} | {step} | " + " | ".join(f"{what} {worst[what]:.0e} ({allowed[what]:.0e})" for what in worst))
    assert not pair.faults(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(RESTATED))
def test_three_steps(name):
    check(name, pair_of(RESTATED, name))


# What is done to a training -> how many steps it takes to show
def rate_of_one_group(ours):
    ours.optimizer._param_groups[-2]["params"][0].optimize_attr["learning_rate"] *= 10


def decay_of_one_batchnorm(ours):
    norm = ours.model.heads[2].conv_3x3._batch_norm.weight
    group = next(g for g in ours.optimizer._param_groups if any(p is norm for p in g["params"]))
    group["params"] = [p for p in group["params"] if p is not norm]
    ours.optimizer._param_groups.append({**group, "params": [norm], "regularization_coeff": 5e-4})
    norm.regularizer = paddle.regularizer.L2Decay(5e-4)


def half_of_min_kept(ours):
    ours.losses["types"][2].min_kept /= 2


def other_order_of_heads(ours):
    forward = ours.model.forward
    ours.model.forward = lambda image: [forward(image)[head] for head in (1, 0, 2)]


def momentum(ours):
    for group in ours.optimizer._param_groups:
        group["momentum"] = 0.99


def nesterov(ours):
    for group in ours.optimizer._param_groups:
        group["use_nesterov"] = True


def later(ours):
    step = ours.schedule.step
    ours.schedule.step = lambda epoch=None: step(epoch if epoch is None else epoch + 1)


MUTATIONS = {rate_of_one_group: 1, decay_of_one_batchnorm: 1, half_of_min_kept: 1, other_order_of_heads: 1, momentum: 2}
MUTATIONS.update({nesterov: 1, later: 1})


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_wrong_training_is_noticed(mutation):
    pair = pair_of(RESTATED, "torchseg R18")
    ours = pair.ours()
    mutation(ours)
    faults = pair.faults(pair.distances(ours, MUTATIONS[mutation]))
    print(f"{mutation.__name__}: {'; '.join(faults[:4])}")
    assert faults


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(ORIGINAL))
def test_three_steps_of_the_original(name):
    check(name, pair_of(ORIGINAL, name))
