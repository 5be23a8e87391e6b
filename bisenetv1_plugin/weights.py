"""Weights from a file into a network or a backbone, with an account of what matched; nothing in the file is run."""

import os
import pickle
import re
from collections import OrderedDict
from urllib.parse import urlparse

import numpy as np
import paddle

from bisenetv1_plugin.errors import InputError

# PaddleSeg is imported where it is needed: its import registers the networks, which import this module.
_NAMES_SHOWN = 6  # the classifiers' weights and biases, which fine-tuning replaces
_TRUST = "BISENETV1_PLUGIN_TRUST_WEIGHTS"  # `cli` sets it for --trust_weights


def load_pretrained(layer, source):
    """Copy the tensors of a `.pdparams` file into `layer` where name and shape agree, and log what did.

    Args:
        layer (paddle.nn.Layer): the network or backbone to fill.
        source (str): a path or URL of a `.pdparams` file (a URL may also be an archive of PaddleSeg's zoo).

    Returns:
        int: how many of the layer's tensors were loaded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no dictionary of tensors, wants to run code, or has none of the layer's tensors.
    """
    from paddleseg.utils import download_pretrained_model, logger

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
        ValueError: a tensor is missing or has another shape, or the file wants to run code; nothing is loaded then.
    """
    from paddleseg.utils import logger

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
    """The arrays in a `.pdparams` file by name, as `paddle.load(path, return_numpy=True)` has them, but read-only.

    Such files are pickles, which may call any function. Here they call none: what `paddle.save` writes is read, and a
    file that asks for more is refused, unless BISENETV1_PLUGIN_TRUST_WEIGHTS=1 leaves it to Paddle.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, wants to run code, or holds no dictionary.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There are no weights at {path}: give the path or URL of a .pdparams file.")
    try:
        state = paddle.load(path, return_numpy=True) if os.environ.get(_TRUST) == "1" else _read(path)
    except _Refused as refused:
        raise InputError(
            f"the weights {path} want to call {refused}, which no tensor needs; nothing in the file was executed. "
            f"If you trust where it comes from, give --trust_weights (outside `bisenetv1`: {_TRUST}=1)."
        ) from refused
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
    state = {name: value for name, value in load_state(path).items() if isinstance(value, np.ndarray)}
    own = layer.state_dict()
    missing = [name for name in own if name not in state]
    misshapen = [
        f"{name} ({_shape(state[name])}, not {_shape(own[name])})"
        for name in own
        if name in state and list(state[name].shape) != list(own[name].shape)
    ]
    fitting = [name for name in own if name in state and list(state[name].shape) == list(own[name].shape)]
    return {name: paddle.to_tensor(state[name]) for name in fitting}, missing, misshapen


def _shape(tensor):
    return "x".join(map(str, tensor.shape))


def _some(names):
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# Reading. A pickle is a program for a small machine that can call whatever it names; `paddle.save` names the few things
# below. Each gets a stand-in that knows the one form in which Paddle and NumPy write it, and no other name is
# given out. Arrays are put together here as well: NumPy's own ways trust the file with types, sizes and offsets.


def _read(path):
    with open(path, "rb") as file:
        state = _plain(_Reader(file, encoding="latin1").load())  # latin1: for what Python 2 has written
    if not isinstance(state, dict):
        return state
    # In protocols 2 and 3, Paddle cuts tensors above a gigabyte into parts.
    for name, cut in state.pop("UnpackBigParamInfor@@", {}).items():
        state[name] = np.concatenate([state.pop(part) for part in cut["slices"]]).reshape(cut["OriginShape"])
    # Paddle's own names of a state dict's tensors. Without it, tensors are pairs (Paddle's name, array).
    if state.pop("StructuredToParameterName@@", None) is None:
        state = _unnamed(state)
    return state


class _Refused(pickle.UnpicklingError):
    """The file names what no tensor needs; the message is its name."""


class _Reader(pickle.Unpickler):
    def find_class(self, module, name):
        found = _STAND_INS.get((module.replace("__builtin__", "builtins").replace("._core.", ".core."), name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found


class _Array:
    """What a pickle of an array fills; `_plain` takes the values out."""

    def __init__(self, kind, shape, code):
        if kind is not _NDARRAY or shape != (0,):
            raise _Refused(f"numpy.core.multiarray._reconstruct for {kind!r:.40}")

    def __setstate__(self, state):
        _, shape, dtype, fortran, content = state
        self.values = _values(shape, dtype, content, "F" if fortran else "C")


class _Dtype:
    """Numbers, real or complex, and booleans."""

    def __init__(self, code, align=False, copy=True):
        if not re.fullmatch(r"[biufc]\d\d?", code):
            raise _Refused(f"numpy.dtype of {code!r:.40}")
        self.numpy = np.dtype(code)

    def __setstate__(self, state):
        order, *structure = state[1:5]
        if structure != [None, None, None]:
            raise _Refused("numpy.dtype of a structure")
        self.numpy = self.numpy.newbyteorder(order)


def _values(shape, dtype, content, order="C"):
    content = content.encode("latin1") if isinstance(content, str) else content
    values = np.ndarray(shape, dtype.numpy, content, order=order)
    if values.nbytes != len(content):
        raise pickle.UnpicklingError(f"an array of {values.nbytes} bytes has {len(content)}")
    # A view of the file's own bytes, and therefore read-only; in this machine's byte order, as NumPy has it.
    return values if dtype.numpy.isnative else values.astype(dtype.numpy.newbyteorder("="))


def _eval(source, scope=()):
    """Paddle's form of a tensor of a static program; nothing is evaluated."""
    if source != "data" or list(scope) != ["data"]:
        raise _Refused(f"builtins.eval of {source!r:.40}")
    return scope["data"]


def _encode(text, encoding):
    """Protocol 2's form of bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode with {encoding!r:.40}")
    return text.encode("latin1")


def _bytes():
    """Protocol 2's form of no bytes."""
    return b""


_NDARRAY = "numpy.ndarray"
_STAND_INS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): lambda dtype, content: _values((), dtype, content)[()],
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("builtins", "bytes"): _bytes,
    ("builtins", "eval"): _eval,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
}


def _plain(value):
    """The same with arrays for the `_Array`."""
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return type(value)((name, _plain(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value


def _unnamed(value):
    """The same with arrays for the pairs (name, array)."""
    if isinstance(value, dict):
        return type(value)((name, _unnamed(item)) for name, item in value.items())
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], np.ndarray):
        return value[1]
    if isinstance(value, (list, tuple)):
        return type(value)(map(_unnamed, value))
    return value
