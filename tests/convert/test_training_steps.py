"""Compare training steps of the ready configurations, as PaddleSeg builds them, with PyTorch in float64.

The loss of each head is compared in every step, and so is the change of every tensor: weights by optimizer group, and
BatchNorm statistics. The tolerance is measured: it is the deviation of the same PyTorch training after its weights are
disturbed by a billionth.
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


def _load_module(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trainings = _load_module("trainings")
network = _load_module("pytorch_network")
references = trainings.references

CLASSES = references.CLASSES
STEPS = 3
BATCH = 4
CROP = (32, 64)
DISTURBANCE = 1e-9
EXACT = 1e-10  # of the first step's losses
STATISTICS = {"_mean": "running mean", "_variance": "running variance"}


def outside_backbone(name):
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
    references.simulate_training(torch, module)
    return module.double()


def _torchseg(kind):
    name = f"torchseg-{kind.replace('.', '-').lower()}"
    return trainings.torchseg(references.build(name).double(), kind, CROP, BATCH)


def _zllrunning():
    torch.manual_seed(0)
    training = trainings.zllrunning(CROP, BATCH)
    references.simulate_training(torch, training.module)
    training.module.double()
    return training


def valid_sixteenth(label):
    return int((label != trainings.IGNORED).sum()) // 16


# Name -> (configuration, training in PyTorch, first iteration, after the warm-up)
RESTATED = {
    "torchseg R18.speed": (
        "bisenetv1_r18_speed_cityscapes_1536x768_80k",
        lambda: trainings.restated(_our_network("torchseg_speed"), outside_backbone, 0.01, 5e-4, 80000, coarse=8),
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
        lambda: trainings.restated(_our_network("torchseg"), outside_backbone, 0.01, 5e-4, 80000),
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
    """Return the names; all but the authors' own are very slow, because each takes a minute."""
    return [pytest.param(name, marks=[pytest.mark.very_slow] * (name != "torchseg R18")) for name in cases]


def our_tensors(tensors):
    """Return PyTorch's tensors with our names. Our own network differs only in BatchNorm's statistics."""
    if "ffm.conv_1x1._conv.weight" not in tensors:
        return conversion.to_paddle(tensors).state
    renamed = {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for name, value in tensors.items()
    }
    return {name: value for name, value in renamed.items() if not name.endswith("num_batches_tracked")}


def example(training):
    """Return images and labels. The network is biased until it is confident of class 0, the label of most pixels.

    Then fewer pixels are hard than the loss keeps at least, a sixteenth. Some pixels and a frame are ignored.
    """
    module = training.module.train()
    image = torch.from_numpy(references.images(BATCH, CROP, seed=2).astype("float64"))
    random = np.random.RandomState(3)
    chance = random.rand(BATCH, *CROP)
    label = np.where(chance < 0.02, random.randint(0, CLASSES, chance.shape), 0)
    label[chance > 0.93] = trainings.IGNORED
    # If corners are not aligned, the outer eight pixels at 1/16 are equal. CoinCheung keeps only some of such ties.
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
    """Return the share of valid pixels with a probability of at most 0.7 for their class."""
    label = label[:, :: label.shape[1] // logit.shape[2], :: label.shape[2] // logit.shape[3]]
    loss = torch.nn.functional.cross_entropy(logit, label, ignore_index=trainings.IGNORED, reduction="none")
    return float((loss[label != trainings.IGNORED] >= -np.log(0.7)).double().mean())


def imitate_paddle(module, optimizer=None):
    """Imitate known differences of Paddle that this comparison does not test.

    Paddle's operators store BatchNorm's epsilon and momentum, and SGD's momentum and decay, in single precision. Its
    running variance averages the batch's variance, not the n / (n - 1) times larger estimate.
    """
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = single(layer.eps)
            layer.momentum = 1 - single(1 - layer.momentum)
            layer.register_forward_pre_hook(_remember)
            layer.register_forward_hook(_without_correction)


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, **unused):
    """Like `torch.nn.functional.interpolate`, with bilinear weights in single precision, as in Paddle."""
    if not align_corners:  # all other ratios here are powers of two, which are exact
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
    """The results of training steps: `losses[step][head]`, and `moved[step][our name]`, the change since the start."""

    def __init__(self, start):
        self.start = start
        self.losses, self.moved = [], []

    def add(self, losses, tensors):
        self.losses.append(np.array([float(loss) for loss in losses]))
        self.moved.append({name: values - self.start[name] for name, values in tensors.items()})


def train_pytorch(training, batch, first, start, disturbance=0.0):
    """Train three steps from the weights `start`."""
    training.module.load_state_dict(start)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in training.module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter *= 1 + disturbance * noise
    optimizer, set_rates = training.optimize()
    for group in optimizer.param_groups:
        group.update(momentum=single(group["momentum"]), weight_decay=single(group["weight_decay"]))
    steps = Steps(our_tensors(numbers(training.module)))
    training.module.train()
    for iteration in range(first, first + STEPS):
        training.module.zero_grad()
        set_rates(iteration)
        losses = training.losses(*batch)
        sum(losses).backward()
        optimizer.step()
        steps.add(losses, our_tensors(numbers(training.module)))
    return steps


def numbers(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


class Ours:
    """The network, optimizer, schedule and loss of a ready configuration, in float64."""

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
    """Map our name to the parameter's group in PyTorch's optimizer; return the function that sets rates as well."""
    optimizer, set_rates = training.optimize()
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    names = [name for name, _ in training.module.named_parameters()]
    # Each tensor is filled with its number, which identifies it after the renaming.
    marked = {name: np.full(value.shape, -1) for name, value in training.module.state_dict().items()}
    for number, (name, parameter) in enumerate(training.module.named_parameters()):
        marked[name] = np.full(parameter.shape, number)
    ours = {name: int(values.flat[0]) for name, values in our_tensors(marked).items()}
    parameters = dict(training.module.named_parameters())
    groups = {name: group_of[id(parameters[names[number]])] for name, number in ours.items() if number >= 0}
    return groups, set_rates


def distances(steps, reference, groups):
    """Return a dict for each step: compared quantity -> its largest relative distance.

    The quantities are 'loss' and groups of tensors. Distances of tensors are relative to the reference's change.
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
    """One of our configurations and the training that it reproduces, with the same weights and batch."""

    def __init__(self, config, training, first):
        self.config, self.first = config, first
        self.batch = example(training)
        imitate_paddle(training.module)
        start = {name: value.clone() for name, value in training.module.state_dict().items()}
        self.start = our_tensors(numbers(training.module))
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
        """Return the distances above those of the disturbed PyTorch training."""
        faults = []
        for step, (worst, allowed) in enumerate(zip(found, self.sensitivity), 1):
            faults += [f"step {step}: {what} {d:.1e}" for what, d in worst.items() if not d <= allowed[what]]
        if not found[0]["loss"] <= EXACT:
            faults.append(f"step 1: loss {found[0]['loss']:.1e}, which is not exact")
        return faults


@pytest.fixture(autouse=True)
def as_in_float64(monkeypatch):
    """Reduce the tolerance for ties in our loss, which is meant for float32."""
    monkeypatch.setattr(ohem, "_TIE", 1e-13)
    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)


_PAIRS = {}


def pair_of(cases, name):
    key = (cases is RESTATED, name)
    if key not in _PAIRS:
        _PAIRS.clear()  # keep only one: it has a dozen copies of the network
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


# Mutations of a training -> number of steps until they are detected
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
OBVIOUS = (nesterov, other_order_of_heads)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(mutation, id=mutation.__name__, marks=[pytest.mark.very_slow] * (mutation in OBVIOUS))
        for mutation in MUTATIONS
    ],
)
def test_wrong_training_is_detected(mutation):
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
