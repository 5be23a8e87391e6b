"""A configuration's components, with upstream's complaints turned into sentences for the user."""

from __future__ import annotations

import os
from typing import Any, Callable, NamedTuple, Sequence, TypeVar

import paddle
import paddleseg  # noqa: F401 - the start-up hook registers the plugin at this import
from paddleseg.cvlibs import SegBuilder
from paddleseg.utils import utils

from bisenetv1_plugin import compat, configuration, plugin
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.weights import check_pretrained, load_trained

Result = TypeVar("Result")
set_device = utils.set_device

_MAX_LENGTH = 600  # characters of upstream's words


def load_config(
    path: str, opts: Sequence[str] | None = None, needs: Sequence[str] = (), **overrides: Any
) -> configuration.Configuration:
    """PaddleSeg's `Config` of a YAML file, with values over it.

    Args:
        path (str): the file.
        opts (list[str], optional): values over the file's, as `key.key=value`.
        needs (sequence[str]): the parts that must be there, among `train_dataset` and `val_dataset`.
        **overrides: `learning_rate`, `iters` and `batch_size` over the file's, where not None.

    Raises:
        InputError: there is no such file, it is no YAML of plain values, a value of those that every command reads is
            of the wrong kind, PaddleSeg refuses what is in it, or it lacks a part.
    """
    plugin.register()  # for interpreters that run no start-up files; where they ran, it does nothing
    if not os.path.isfile(path):
        raise InputError(f"there is no configuration {path}. `bisenetv1 configs` lists ready ones.")
    cfg = _with_input_errors(f"{path} cannot be used", configuration.Configuration, path, opts=opts, **overrides)
    for part in needs:
        if not getattr(cfg, f"{part}_cfg"):
            raise InputError(f"{path} has no {part}, and this needs one.")
    return cfg


class Network(NamedTuple):
    """A trained network: its configuration, what builds the configuration's other parts, and the model itself."""

    cfg: configuration.Configuration
    builder: Builder
    model: paddle.nn.Layer


def open_network(
    config: str | os.PathLike[str] | configuration.Configuration,
    weights: str | os.PathLike[str],
    device: str | None = None,
    needs: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> Network:
    """A configuration's network with trained weights, in evaluation mode.

    Args:
        config (str, path or Config): the YAML file, or what `load_config` gives for it.
        weights (str or path): the trained weights, a .pdparams file.
        device (str, optional): 'cpu' or 'gpu', for all of Paddle in this process; default: the one that is set.
        needs (sequence[str]): of `load_config`, where `config` is a file.
        datasets (sequence[str]): among `train_dataset` and `val_dataset`: built before the weights are read, so that
            data that cannot be used are refused first.

    Raises:
        InputError: the configuration, a dataset or the weights cannot be used, the weights do not account for every
            tensor, or there are more classes than a mask can hold.
    """
    cfg = config if isinstance(config, configuration.Configuration) else load_config(os.fspath(config), needs=needs)
    if device:
        set_device(device)
    builder = Builder(cfg)
    for name in datasets:
        getattr(builder, name)
    _check_classes(cfg.model_cfg.get("num_classes", 1))
    model = builder.model
    _with_input_errors(f"the weights {os.fspath(weights)} cannot be used", load_trained, model, os.fspath(weights))
    model.eval()
    return Network(cfg, builder, model)


class Builder:
    """PaddleSeg's `SegBuilder`; a part that cannot be built raises `InputError`.

    Whatever network it is, the guards of `compat` begin: this package reads its data.
    """

    def __init__(self, cfg: configuration.Configuration) -> None:
        compat.apply(compat.WITH_THE_NETWORK)
        self.config = cfg
        self._builder = SegBuilder(cfg)

    def __getattr__(self, part: str) -> Any:
        if not hasattr(SegBuilder, part):
            raise AttributeError(part)
        if part == "model":
            _with_input_errors("the configuration's model cannot be built", check_pretrained, self.config.model_cfg)
        built = _with_input_errors(f"the configuration's {part} cannot be built", getattr, self._builder, part)
        if part == "val_dataset":  # whose class may say it alone
            _check_classes(getattr(built, "num_classes", 1))
        return built


def _check_classes(number: Any) -> None:
    _with_input_errors("the configuration cannot be used", configuration.check_classes, "num_classes", number)


def _with_input_errors(what: str, function: Callable[..., Result], *arguments: Any, **keywords: Any) -> Result:
    """Call it; whatever it raises of what stands in a file becomes a sentence."""
    try:
        return function(*arguments, **keywords)
    except InputError:
        raise
    except Exception as error:  # a component may raise anything of arguments that it does not expect
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__context__
        if cause is not None:  # in upstream's words, which would be three lines
            raise cause from error
        words = " ".join(str(error).split()) or "no reason was given"
        if isinstance(error, KeyError):
            words = f"the key {words} is missing"
        raise InputError(f"{what}: {words if len(words) <= _MAX_LENGTH else words[:_MAX_LENGTH] + ' ...'}") from error
