"""Load weights from a file into a network or a backbone, and log what matched. No code in the file is run."""

from __future__ import annotations

import logging
import os
from typing import Any, Sequence
from urllib.parse import urlparse

import numpy as np
import paddle

from bisenetv1_plugin import pickles
from bisenetv1_plugin.errors import InputError

logger = logging.getLogger(__name__)

_NAMES_SHOWN = 6  # the classifiers' weights and biases, which fine-tuning replaces
_TRUST = "BISENETV1_PLUGIN_TRUST_WEIGHTS"  # `cli` sets it for --trust_weights


def load_pretrained(layer: paddle.nn.Layer, source: str) -> int:
    """Copy the tensors of a `.pdparams` file into `layer` where name, shape and type agree, and log the result.

    Args:
        layer: the network or backbone.
        source: a path or URL of a `.pdparams` file (a URL may also be an archive of PaddleSeg's zoo).

    Returns:
        The number of the layer's tensors that were loaded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a dictionary of tensors, wants to run code, or has no tensor of the layer.
    """
    matched, missing, misshapen = _match(layer, _local_path(source))
    own = layer.state_dict()
    if not matched:
        raise ValueError(
            f"None of the {len(own)} tensors of {type(layer).__name__} is in {source}: "
            "these weights belong to another network, variant or backbone."
        )
    layer.set_state_dict({**own, **matched})
    logger.info(f"Loaded {len(matched)} of the {len(own)} tensors of {type(layer).__name__} from {source}.")
    if missing:
        logger.warning(f"{len(missing)} tensors are not in {source} and keep their values: {_first_names(missing)}")
    if misshapen:
        logger.warning(
            f"{len(misshapen)} tensors have another shape or type in {source}, skipped: {_first_names(misshapen)}"
        )
    return len(matched)


def load_trained(model: paddle.nn.Layer, path: str) -> None:
    """Copy a whole network's weights: the `.pdparams` file must have every tensor of `model`, in its shape and type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a tensor is missing, has another shape or type, or has NaN or infinity, or the file wants to run
            code. Nothing is loaded.
    """
    matched, missing, misshapen = _match(model, path)
    if missing or misshapen:
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: {len(missing)} tensors are missing "
            f"({_first_names(missing) or 'none'}), {len(misshapen)} have another shape or type "
            f"({_first_names(misshapen) or 'none'}). "
            "The weights were trained with another configuration."
        )
    spoiled = [name for name, tensor in matched.items() if not np.isfinite(tensor.numpy()).all()]
    if spoiled:
        raise ValueError(
            f"{path} holds NaN or infinity in {len(spoiled)} tensors ({_first_names(spoiled)}): its training diverged. "
            "Take an earlier checkpoint."
        )
    model.set_state_dict(matched)
    logger.info(f"Loaded all {len(matched)} tensors of {type(model).__name__} from {path}.")


def check_pretrained(values: Any) -> None:
    """Refuse a configuration if a `pretrained` file in it wants to run code.

    PaddleSeg's own components read these files with `paddle.load`, which would run it. A file that `load_state` can
    read is safe for `paddle.load`, too.

    Raises:
        ValueError: see `load_state`.
    """
    if isinstance(values, (list, tuple)):
        values = dict(enumerate(values))
    for key, value in values.items() if os.environ.get(_TRUST) != "1" else ():
        if key == "pretrained" and isinstance(value, str):
            path = _local_path(value)
            if os.path.exists(path):  # otherwise the component raises
                load_state(path)
        elif isinstance(value, (dict, list, tuple)):
            check_pretrained(value)


def _local_path(source: str) -> str:
    from paddleseg.utils import (
        download_pretrained_model,
    )  # not above: importing it imports the networks, which import this module

    return download_pretrained_model(source) if urlparse(source).netloc else source


def load_state(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays in a `.pdparams` file by name, as from `paddle.load(path, return_numpy=True)`, but read-only.

    Such files are pickles, which may call any function. Files as `paddle.save` writes them are read without calling
    any. Others are refused, unless BISENETV1_PLUGIN_TRUST_WEIGHTS=1, which lets Paddle load them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a folder, cannot be read, wants to run code, or is not a dictionary.
    """
    inside = os.path.join(path, "model.pdparams")  # of a checkpoint or of best_model
    if os.path.isfile(inside):
        raise InputError(f"{os.fspath(path)} is a folder: name {inside}.")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there are no weights at {path}: give the path or URL of a .pdparams file.")
    try:
        state = paddle.load(os.fspath(path), return_numpy=True) if os.environ.get(_TRUST) == "1" else _read(path)
    except pickles.ForbiddenCall as refused:
        raise InputError(
            f"the weights {path} want to call {refused}, which no tensor needs; nothing in the file was executed. "
            f"If you trust its source, give --trust_weights (outside `bisenetv1`: {_TRUST}=1)."
        ) from refused
    except Exception as error:
        raise ValueError(
            f"Paddle cannot read the weights {path} ({error}). They must be a .pdparams file; "
            "unpack an archive and name the file inside."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a dictionary of tensors.")
    return state


def _match(layer: paddle.nn.Layer, path: str) -> tuple[dict[str, paddle.Tensor], list[str], list[str]]:
    """The file's tensors that fit the layer, and the layer's names that are missing or have another shape or type."""
    state = {name: value for name, value in load_state(path).items() if isinstance(value, np.ndarray)}
    own = layer.state_dict()
    missing = [name for name in own if name not in state]
    fitting = [name for name in own if name in state and _shape_and_type(state[name]) == _shape_and_type(own[name])]
    misshapen = [
        f"{name} ({_shape_and_type(state[name])}, not {_shape_and_type(own[name])})"
        for name in own
        if name in state and name not in fitting
    ]
    return {name: paddle.to_tensor(state[name]) for name in fitting}, missing, misshapen


def _shape_and_type(tensor: paddle.Tensor | np.ndarray) -> str:
    """Shape and type of a tensor or an array as text; Paddle writes bfloat16 as uint16."""
    kind = str(tensor.dtype).split(".")[-1].replace("bfloat16", "uint16")
    return "x".join(map(str, tensor.shape)) + ("" if kind == "float32" else f" of {kind}")


def _first_names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read(path: str | os.PathLike[str]) -> Any:
    state = pickles.read(path)
    if not isinstance(state, dict):
        return state
    state.pop(pickles.NAMES, None)
    # In protocols 2 and 3, Paddle cuts tensors above a gigabyte into parts.
    left = os.path.getsize(path)
    for name, cut in state.pop("UnpackBigParamInfor@@", {}).items():
        parts = [state.pop(part, None) for part in cut["slices"]]
        if any(type(part) is not np.ndarray or part.ndim != 1 or part.dtype != parts[0].dtype for part in parts):
            raise ValueError("a part of a tensor is missing")
        left -= sum(part.nbytes for part in parts)
        if left < 0:
            raise ValueError("its tensors are larger than the file")
        shape = pickles.check_shape(cut["OriginShape"], sum(map(len, parts)))
        state[name] = np.concatenate(parts).reshape(shape)
    return state
