"""Weights from a file into a network or a backbone, with an account of what matched."""

import os
from urllib.parse import urlparse

import paddle
from paddleseg.utils import download_pretrained_model, logger

_NAMES_SHOWN = 6  # the classifiers' weights and biases, which fine-tuning replaces


def load_pretrained(layer, source):
    """Copy the tensors of a `.pdparams` file into `layer` where name and shape agree, and log what did.

    Args:
        layer (paddle.nn.Layer): the network or backbone to fill.
        source (str): a path or URL of a `.pdparams` file (a URL may also be an archive of PaddleSeg's zoo).
            Such files are pickles: load only what you trust.

    Returns:
        int: how many of the layer's tensors were loaded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no dictionary of tensors, or none of the layer's tensors is in it.
    """
    path = download_pretrained_model(source) if urlparse(source).netloc else source
    matched, missing, misshapen = _match(layer, path)
    own = layer.state_dict()
    if not matched:
        raise ValueError(
            f"None of the {len(own)} tensors of {type(layer).__name__} is in {source}: "
            "these weights belong to another network, variant or backbone."
        )
    layer.set_state_dict({**own, **matched})
    logger.info(f"Loaded {len(matched)} of the {len(own)} tensors of {type(layer).__name__} from {source}.")
    if missing:
        logger.warning(f"{len(missing)} tensors are not in {source} and keep their values: {_some(missing)}")
    if misshapen:
        logger.warning(f"{len(misshapen)} tensors have another shape in {source}, skipped: {_some(misshapen)}")
    return len(matched)


def load_trained(model, path):
    """Copy a whole network's weights: every tensor of `model` must be in the `.pdparams` file, in its shape.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a tensor is missing or has another shape; nothing is loaded then.
    """
    matched, missing, misshapen = _match(model, path)
    if missing or misshapen:
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: {len(missing)} tensors are missing "
            f"({_some(missing) or 'none'}), {len(misshapen)} have another shape ({_some(misshapen) or 'none'}). "
            "The weights were trained with another configuration."
        )
    model.set_state_dict(matched)
    logger.info(f"Loaded all {len(matched)} tensors of {type(model).__name__} from {path}.")


def load_state(path):
    """The dictionary of tensors in a `.pdparams` file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds no dictionary.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There are no weights at {path}: give the path or URL of a .pdparams file.")
    try:
        state = paddle.load(path)
    except Exception as error:
        raise ValueError(
            f"Paddle cannot read the weights {path} ({error}). They must be a .pdparams file; "
            "unpack an archive and name the file inside."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no dictionary of tensors.")
    return state


def _match(layer, path):
    """The file's tensors that fit the layer, and the layer's names that are missing there or have another shape."""
    state = load_state(path)
    own = layer.state_dict()
    missing = [name for name in own if name not in state]
    misshapen = [
        f"{name} ({_shape(state[name])}, not {_shape(own[name])})"
        for name in own
        if name in state and list(state[name].shape) != list(own[name].shape)
    ]
    matched = {name: state[name] for name in own if name in state and list(state[name].shape) == list(own[name].shape)}
    return matched, missing, misshapen


def _shape(tensor):
    return "x".join(map(str, tensor.shape))


def _some(names):
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
