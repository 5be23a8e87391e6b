"""Configuration files: read as plain values, and checked before PaddleSeg uses them.

PaddleSeg fails at a wrong value where it first uses it, often with a traceback. Here it is a ValueError before any
work, with a sentence that names the key. `training.builder.load_config` adds the file's name.
"""

from __future__ import annotations

import datetime
import math
import os
from typing import Any, Sequence

import yaml
from paddleseg.cvlibs import Config
from paddleseg.cvlibs.config import merge_config_dicts

from bisenetv1_plugin import plain_yaml

# The keys of `test_config` for PaddleSeg's `evaluate`, and further ones for its `predict`.
EVALUATION = (
    *("aug_eval", "scales", "flip_horizontal", "flip_vertical", "is_slide", "stride", "crop_size"),
    *("print_detail", "auc_roc"),
)
PREDICTION = ("aug_pred", "custom_color")

CLASSES = 256  # at most: masks have 8 bits, as have the labels of PaddleSeg's `Dataset`
_CLASSES_ELSEWHERE = 1 << 16  # for datasets that read their labels themselves, such as PaddleSeg's PSSLDataset
_BYTES, _FILES = 1 << 16, 100  # largest size of a file; largest number of files with all `_base_`
_CHANNELS = 4096
_SHOWN = 80  # characters of a value in a message


class Configuration(Config):
    """PaddleSeg's `Config`, with checks of its files and values."""

    @classmethod
    def _parse_from_yaml(cls, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return _read(path, (), [])

    @classmethod
    def update_config_dict(
        cls, dic: dict[str, Any], *args: Any, opts: Sequence[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        if kwargs.get("learning_rate") and not isinstance(dic.get("lr_scheduler"), dict):
            raise ValueError("it has no lr_scheduler, in which to set the learning rate.")
        for item in opts or ():
            _check_option(item, dic)
        dic = super().update_config_dict(dic, *args, opts=opts, **kwargs)
        _check_plain("it", dic)
        _check(dic)
        return dic


class _Loader(yaml.SafeLoader):
    """Loads plain values, and tuples, which some of PaddleSeg's configurations have."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)


def _read(path: str, above: tuple[str, ...], read: list[str]) -> dict[str, Any]:
    """A file's values merged over those of its `_base_`.

    Args:
        path: the file.
        above: the files that lead to it by `_base_`.
        read: all files that were read so far; this one is appended.
    """
    file = os.path.realpath(path)
    if file in above:
        raise ValueError(f"{path} is a _base_ of itself.")
    read.append(file)
    if len(read) > _FILES:
        raise ValueError(f"it has more than {_FILES} files as _base_.")
    dic = _parse(path)
    if not isinstance(dic, dict):
        raise ValueError(f"{path} must hold keys with values, not {_shown(dic)}.")
    bases = dic.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, (list, tuple)) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"_base_ in {path} must be a path or a list of paths, not {_shown(bases)}.")
    for base in bases:
        base = os.path.join(os.path.dirname(path), base)
        if not os.path.isfile(base):
            raise ValueError(f"there is no file {base}, which {path} names as its _base_.")
        try:
            dic = merge_config_dicts(dic, _read(base, (*above, file), read))
        except (AttributeError, TypeError) as error:
            raise ValueError(f"a key holds other keys in {path}, but not in {base}, its _base_.") from error
    return dic


def _parse(path: str) -> Any:
    with open(path, "rb") as file:
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise ValueError(f"{path} is larger than {_BYTES} bytes: it cannot be a configuration.")
    try:
        return plain_yaml.parse(content.decode("utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8.") from error
    except plain_yaml.NotPlain as error:
        raise ValueError(f"{path} is not YAML with plain values: {error}.") from error


def _check_option(item: str, dic: dict[str, Any]) -> None:
    """Check an item of --opts before PaddleSeg sets it."""
    keys = item.split("=")[0].split(".")
    if item.count("=") != 1 or not all(keys):
        raise ValueError(f"--opts takes key.key=value, such as iters=1000, not {_shown(item)}.")
    below: Any = dic
    for key in keys[:-1]:
        below = below.get(key)
        if not isinstance(below, dict):
            raise ValueError(f"--opts {_shown(item)}: there are no keys under {'.'.join(keys[:-1])}.")


def _check_plain(key: str, value: Any) -> None:
    """Refuse values that are not plain YAML; --opts and tags can make others."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_plain(name if key == "it" else f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_plain(key, item)
    elif isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{_shown(key)} must be text, not {value!a:.{_SHOWN}}.")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{_shown(key)} is a number of more than 64 bits: give a smaller one.")
    elif not (value is None or isinstance(value, (float, datetime.date))):
        raise ValueError(f"{_shown(key)} must be a plain value, not {_shown(value)}.")


def _check(dic: dict[str, Any]) -> None:
    """Raise ValueError for values at which PaddleSeg would fail later, or which it would never notice."""
    for key in ("batch_size", "iters"):
        if key in dic:
            _check_whole(key, dic[key], 1)
    for key in ("model", "train_dataset", "optimizer", "lr_scheduler"):
        if key in dic:
            _check_component(key, dic[key])
    for key in ("loss", "distill_loss"):
        if dic.get(key, {}) != {}:
            _check_loss(key, dic[key])
    for key in ("train_dataset", "val_dataset"):
        if dic.get(key, {}) != {}:
            _check_dataset(key, dic[key])
    _check_model(dic.get("model", {}), dic.get("train_dataset", {}).get("type"))
    for key in ("optimizer", "lr_scheduler"):
        for name, value in dic.get(key, {}).items():
            _check_finite(f"{key}.{name}", value)
    if "learning_rate" in dic.get("lr_scheduler", {}):
        _check_number("lr_scheduler.learning_rate", dic["lr_scheduler"]["learning_rate"])
    if "warmup_iters" in dic.get("lr_scheduler", {}):
        _check_whole("lr_scheduler.warmup_iters", dic["lr_scheduler"]["warmup_iters"], 0)
    _check_test_config(dic.get("test_config", {}))
    if not isinstance(dic.get("to_static_training", False), (bool, int)):
        raise ValueError(f"to_static_training must be true or false, not {_shown(dic['to_static_training'])}.")


def _check_model(model: dict[str, Any], type_of_data: str | None) -> None:
    most = CLASSES if type_of_data == "Dataset" else _CLASSES_ELSEWHERE
    for key, part in (("model", model), ("model.backbone", model.get("backbone", {}))):
        if key == "model.backbone" and part != {}:
            _check_component(key, part)
        if "num_classes" in part:
            check_classes(f"{key}.num_classes", part["num_classes"], most)
        if part.get("in_channels") is not None:
            _check_whole(f"{key}.in_channels", part["in_channels"], 1, _CHANNELS)
        _check_file(f"{key}.pretrained", part.get("pretrained"))


def _check_dataset(key: str, dataset: dict[str, Any]) -> None:
    _check_component(key, dataset)
    for name in ("dataset_root", "mode"):
        if not isinstance(dataset.get(name, ""), (str, type(None))):
            raise ValueError(f"{key}.{name} must be text, not {_shown(dataset[name])}.")
    for name in ("train_path", "val_path", "test_path"):
        _check_file(f"{key}.{name}", dataset.get(name))
    if "num_classes" in dataset:
        check_classes(f"{key}.num_classes", dataset["num_classes"])
    for name in ("ignore_index", "img_channels"):
        if name in dataset:
            _check_whole(f"{key}.{name}", dataset[name], -(2**31) if name == "ignore_index" else 1)
    if "transforms" in dataset:
        _check_components(f"{key}.transforms", dataset["transforms"])


def _check_loss(key: str, loss: Any) -> None:
    if not isinstance(loss, dict):
        raise ValueError(f"{key} must have types and coef, not be {_shown(loss)}.")
    coef = loss.get("coef", [1])
    if not isinstance(coef, (list, tuple)) or not coef:
        raise ValueError(
            f"{key}.coef must be a list of numbers, one for each output of the network, not {_shown(coef)}."
        )
    for value in coef:
        _check_number(f"{key}.coef", value, -math.inf)
    types = loss.get("types", [{"type": ""}])
    if not types:
        raise ValueError(f"{key}.types must be a list of losses, not {_shown(types)}.")
    _check_components(f"{key}.types", types)
    for item in types:
        _check_finite(f"{key}.types", list(item.values()))
        if item["type"] == "MixedLoss":
            _check_components(f"{key}.types.losses", item.get("losses"))


def _check_test_config(test: Any) -> None:
    if not isinstance(test, dict):
        raise ValueError(f"test_config must hold keys with values, not {_shown(test)}.")
    for key in test:
        if key not in (*EVALUATION, *PREDICTION):
            raise ValueError(f"test_config.{_shown(key)} is unknown to PaddleSeg's evaluation: omit it.")
    for key in ("crop_size", "stride"):
        value = test.get(key)
        if value is not None and not (isinstance(value, (list, tuple)) and len(value) == 2):
            raise ValueError(f"test_config.{key} must be a width and a height, not {_shown(value)}.")
        for number in value or ():
            _check_whole(f"test_config.{key}", number, 1)
    if test.get("is_slide") and not (test.get("crop_size") and test.get("stride")):
        raise ValueError("test_config.is_slide needs crop_size and stride, a width and a height each.")
    if type(test.get("scales")) is int:  # PaddleSeg takes only a float for a single scale
        test["scales"] = float(test["scales"])
    scales = test.get("scales", 1.0)
    for scale in scales if isinstance(scales, (list, tuple)) and scales else [scales]:
        _check_number("test_config.scales", scale)
        if scale == 0:
            raise ValueError("test_config.scales must be above 0, not 0.")


def _check_component(key: str, value: Any) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ValueError(f"{key} must have a type, which names a component, not be {_shown(value)}.")


def _check_components(key: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{key} must be a list of components, not {_shown(value)}.")
    for item in value:
        _check_component(key, item)


def check_classes(key: str, value: Any, most: int = CLASSES) -> None:
    """Raise ValueError unless `value` is a number of classes that labels and masks can hold."""
    if isinstance(value, int) and value > most:
        raise ValueError(
            f"{key} is {_shown(value)}; labels and masks have {most.bit_length() - 1} bits: {most} classes at most."
        )
    if isinstance(value, (float, bool)):
        raise ValueError(f"{key} must be a whole number from 1 to {most}, not {_shown(value)}.")
    _check_whole(key, value, 1, most)


def _check_whole(key: str, value: Any, least: int, most: int = 2**31 - 1) -> None:
    """Raise ValueError unless `value` is a whole number in this range; 80000.0 is one, too."""
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
    if not whole or value != int(value):
        span = f"from {least} to {most}" if most < 2**31 - 1 else f"of at least {least}"
        raise ValueError(f"{key} must be a whole number {span}, not {_shown(value)}.")


def _check_number(key: str, value: Any, least: float = 0) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        above = "" if least == -math.inf else f" of at least {least}"
        hint = "; write 1.0e-3 or 0.001, because YAML reads 1e-3 as text" if isinstance(value, str) else ""
        raise ValueError(f"{key} must be a number{above}, not {_shown(value)}{hint}.")


def _check_finite(key: str, value: Any) -> None:
    """Raise ValueError for NaN or infinity in a value or its items."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_finite(key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, not {value}.")


def _check_file(key: str, value: Any) -> None:
    """Raise ValueError for a folder, device or pipe, which could block a read forever; the file may be missing."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be the path of a file, not {_shown(value)}.")
    if value and os.path.exists(value) and not os.path.isfile(value):
        raise ValueError(f"{key} must be the path of a file, and {_shown(value)} is not a file.")


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value if value.isidentifier() else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."
