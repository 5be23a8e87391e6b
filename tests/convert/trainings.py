"""Trainings in PyTorch: reimplementations of the authors' code, and the authors' own files.

`TORCHSEG_DIR`, `COINCHEUNG_DIR` and `ZLLRUNNING_DIR` name checkouts of ycszen/TorchSeg, CoinCheung/BiSeNet and
zllrunning/face-parsing.PyTorch. Tests are skipped without them. MMSegmentation's files come from PyPI.
"""

import ast
import importlib.util
import types
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import nn

_spec = importlib.util.spec_from_file_location("references", Path(__file__).with_name("references.py"))
references = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(references)

IGNORED = 255


@dataclass
class Training:
    """A training in PyTorch.

    Attributes:
        module: the network. In training mode it returns the logits auxiliary 1/16, auxiliary 1/8, principal.
        losses: `(image, label)` -> the losses of these three, in this order.
        optimize: `()` -> a new optimizer, and a function that sets its rates for iteration n, counted from 0. Call
            this function only without gradients.
    """

    module: nn.Module
    losses: Callable
    optimize: Callable


# Reimplementations. They select parameters by type of layer; our configurations do so by name.


def groups(module, decay, is_tenfold):
    """Return SGD's groups: ten times the rate if `is_tenfold(name)`, and no decay on BatchNorms and biases."""
    found = {}
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(prefix=path, recurse=False):
            decayed = isinstance(layer, nn.Conv2d) and not name.endswith(".bias")
            found.setdefault((10 if is_tenfold(name) else 1, decay if decayed else 0.0), []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "weight_decay": own_decay}
        for (factor, own_decay), parameters in found.items()
    ]


def hard_cross_entropy(logit, label, least):
    """Average over pixels with a probability of at most 0.7, but at least over the `least` least probable pixels."""
    loss = nn.functional.cross_entropy(logit, label, ignore_index=IGNORED, reduction="none")[label != IGNORED]
    hard = int((loss >= -np.log(0.7)).sum())
    return loss.sort(descending=True).values[: max(hard, least)].mean()


def restated(module, is_tenfold, rate, decay, iterations, warmup=0, least=None, coarse=1):
    """Reimplement a training of the authors, CoinCheung or zllrunning.

    Args:
        least: label -> minimum number of pixels in the loss. Default: a sixteenth of all.
        coarse: subsampling of the label in both directions.
    """
    least = least or (lambda label: label.numel() // 16)

    def losses(image, label):
        label = label[:, ::coarse, ::coarse]
        return [hard_cross_entropy(logit, label, least(label)) for logit in module(image)]

    def optimize():
        optimizer = torch.optim.SGD(groups(module, decay, is_tenfold), lr=rate, momentum=0.9)

        def set_rates(iteration):
            now = rate * (1 - (iteration - warmup) / (iterations - warmup)) ** 0.9
            for group in optimizer.param_groups:
                group["lr"] = group["factor"] * now

        return optimizer, set_rates

    return Training(module, losses, optimize)


# The authors' own files


def mmsegmentation(module, folder, name):
    """Use the configuration `name` of the package, and its library's optimizer and schedulers."""
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    config = Config.fromfile(str(folder / f"{name}.py"))
    # Paddle's decay begins one iteration before MMEngine's, and would end one after it: a difference of 1 in 159000.
    config.param_scheduler[-1].begin -= 1
    config.param_scheduler[-1].end += 1

    def losses(image, label):
        samples = [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in label]
        found = module.loss(image, samples)
        return [found[f"{head}.loss_ce"] for head in ("aux_1", "aux_0", "decode")]

    def optimize():
        optimizer = build_optim_wrapper(module, config.optim_wrapper).optimizer
        schedulers = [PARAM_SCHEDULERS.build({**part, "optimizer": optimizer}) for part in config.param_scheduler]
        done = [0]

        def set_rates(iteration):
            while done[0] < iteration:
                for scheduler in schedulers:
                    scheduler.step()
                done[0] += 1

        return optimizer, set_rates

    return Training(module, losses, optimize)


def torchseg(module, kind, crop, batch):
    """Run the statements of train.py for the loss, the groups, the optimizer and its rates."""
    folder = references.checkout("TORCHSEG_DIR")
    place = folder / f"model/bisenet/cityscapes.bisenet.{kind}"
    logger = types.ModuleType("engine.logger")
    logger.get_logger = lambda: types.SimpleNamespace(info=lambda text: None)
    # Masks were integers in PyTorch then; today they are booleans.
    source = (folder / "furnace/seg_opr/loss_opr.py").read_text(encoding="utf-8")
    assert source.count("1 - valid_mask") == 2
    loss = {}
    with references.modules(folder / "furnace", "seg_opr", "utils", "engine", **{"engine.logger": logger}):
        exec(compile(source.replace("1 - valid_mask", "~valid_mask"), "loss_opr.py", "exec"), loss)
        from engine.lr_policy import PolyLR
        from utils.init_func import group_weight, init_weight

    config = types.SimpleNamespace(**_constants(place / "config.py", "C"))
    config.batch_size = batch
    config.image_height, config.image_width = crop
    script = ast.parse((place / "train.py").read_text(encoding="utf-8"))
    known = {
        "config": config,
        "engine": types.SimpleNamespace(devices=[0], distributed=False),
        "ProbOhemCrossEntropy2d": loss["ProbOhemCrossEntropy2d"],
        "nn": nn,
        "torch": torch,
        "PolyLR": PolyLR,
        "group_weight": group_weight,
        "init_weight": init_weight,
        "BatchNorm2d": nn.BatchNorm2d,
        "model": module,
    }
    _run(_assignments(script, "min_kept", "criterion", "ohem_criterion"), known)
    criterion = known.get("ohem_criterion", known["criterion"])
    coarse = getattr(config, "gt_down_sampling", 1)

    def losses(image, label):
        label = label[:, ::coarse, ::coarse].contiguous()
        return [criterion(logit, label) for logit in module(image)]

    def optimize():
        names = dict(known)
        _run(_assignments(script, "base_lr", "params_list", "optimizer", "total_iteration", "lr_policy"), names)

        def set_rates(iteration):
            names["lr"] = names["lr_policy"].get_lr(iteration)
            _run(_loops_over(script, "param_groups"), names)

        return names["optimizer"], set_rates

    def initialize():
        _run([node for node in ast.walk(script) if _is_call(node, "init_weight")], known)

    training = Training(module, losses, optimize)
    training.initialize = initialize
    return training


def coincheung(module, dataset):
    """Use `set_optimizer` of tools/train_amp.py, and lib/, in double precision."""
    folder = references.checkout("COINCHEUNG_DIR")
    config = {}
    exec((folder / f"configs/bisenetv1_{dataset}.py").read_text(encoding="utf-8"), config)
    config = types.SimpleNamespace(**config["cfg"])
    with references.modules(folder, "lib"), _no_gpu():
        from lib.lr_scheduler import WarmupPolyLrScheduler
        from lib.ohem_ce_loss import OhemCELoss

        criterion = OhemCELoss(0.7, IGNORED)
    script = ast.parse((folder / "tools/train_amp.py").read_text(encoding="utf-8"))
    known = {"cfg": config, "torch": torch}
    _run([node for node in script.body if getattr(node, "name", "") == "set_optimizer"], known)
    keywords = next(node for node in ast.walk(script) if _is_call(node, "WarmupPolyLrScheduler")).value.keywords

    def losses(image, label):
        return [criterion(logit, label) for logit in module(image)]

    def optimize():
        optimizer = known["set_optimizer"](module)
        options = {key.arg: eval(compile(ast.Expression(key.value), "train_amp.py", "eval"), known) for key in keywords}
        scheduler = WarmupPolyLrScheduler(optimizer, **options)

        def set_rates(iteration):
            scheduler.last_epoch = iteration
            for group, rate in zip(optimizer.param_groups, scheduler.get_lr()):
                group["lr"] = rate

        return optimizer, set_rates

    return Training(module, losses, optimize)


def zllrunning(crop, batch):
    """Use optimizer.py, loss.py and model.py, with the constants of train.py."""
    folder = references.checkout("ZLLRUNNING_DIR")
    numbers = {}
    script = ast.parse((folder / "train.py").read_text(encoding="utf-8"))
    for node in ast.walk(script):
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.UnaryOp)):
            numbers[node.targets[0].id] = ast.literal_eval(node.value)
    numbers.update(n_img_per_gpu=batch, cropsize=crop)
    _run(_assignments(script, "n_min"), numbers)
    stand_ins = {"torchvision": types.ModuleType("torchvision")}
    with references.modules(
        folder, "model", "resnet", "loss", "optimizer", **stand_ins
    ), _no_gpu(), references.no_download():
        from loss import OhemCELoss
        from model import BiSeNet
        from optimizer import Optimizer

        module = references.wrap(BiSeNet(references.CLASSES), references.reverse_outputs(BiSeNet.forward))
        criterion = OhemCELoss(thresh=numbers["score_thres"], n_min=numbers["n_min"], ignore_lb=numbers["ignore_idx"])

    def losses(image, label):
        label = label.where(label != IGNORED, numbers["ignore_idx"])
        return [criterion(logit, label) for logit in module(image)]

    def optimize():
        theirs = Optimizer(
            model=module,
            lr0=numbers["lr_start"],
            wd=numbers["weight_decay"],
            **{name: numbers[name] for name in ("momentum", "warmup_steps", "warmup_start_lr", "max_iter", "power")},
        )

        def set_rates(iteration):
            theirs.it = iteration
            theirs.step()  # without gradients, it only sets the rates

        return theirs.optim, set_rates

    return Training(module, losses, optimize)


def _constants(path, name):
    """Return the attributes of `name` that a script sets to constants."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Attribute) and getattr(target.value, "id", None) == name:
            try:
                found[target.attr] = ast.literal_eval(node.value)
            except ValueError:  # a path or an array, which is not needed here
                continue
    return found


def _assignments(script, *names):
    return [node for node in ast.walk(script) if isinstance(node, ast.Assign) and _target(node) in names]


def _target(node):
    return getattr(node.targets[0], "id", None)


def _loops_over(script, attribute):
    """Return the innermost loops with an assignment to `attribute`."""
    loops = [node for node in ast.walk(script) if isinstance(node, ast.For)]
    return [loop for loop in loops if any(_sets(part, attribute) for part in loop.body)]


def _sets(node, attribute):
    return isinstance(node, ast.Assign) and any(getattr(part, "attr", None) == attribute for part in ast.walk(node))


def _is_call(node, name):
    return isinstance(node, (ast.Expr, ast.Assign)) and getattr(getattr(node.value, "func", None), "id", None) == name


def _run(nodes, names):
    nodes = sorted(nodes, key=lambda node: node.lineno)
    exec(compile(ast.Module(body=nodes, type_ignores=[]), "their script", "exec"), names)


@contextmanager
def _no_gpu():
    """Make `.cuda()` return the tensor itself."""
    cuda, torch.Tensor.cuda = torch.Tensor.cuda, lambda tensor: tensor
    try:
        yield
    finally:
        torch.Tensor.cuda = cuda
