"""Read the pickles that `paddle.save` writes without running any code in them.

A pickle is a program for a small machine, and may call any function. `pickletools` only decodes it. The machine here
knows only the opcodes and functions that Paddle and NumPy write, each in the form in which they write it. Time and
memory are bounded by the file's size, because repeated values are neither copied nor processed again.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, BinaryIO, Callable, Literal, cast

import numpy as np

NAMES = "StructuredToParameterName@@"

_STEPS = 2_000_000  # most opcodes in a file; a tensor takes 40
_LINE = 200  # most bytes in the name of a module or a function
_NAME = 1000  # most characters in a tensor's name
_DEPTH = 100  # most levels of nested containers
_DIMENSIONS = 32


class ForbiddenCall(pickle.UnpicklingError):
    """The file wants to call a function that no tensor needs; the message is the function's name."""


def read(path: str | os.PathLike[str]) -> Any:
    """The value in a pickle: None, numbers, text, bytes and arrays, in tuples, lists, sets of text and dictionaries.

    Tensors become arrays without Paddle's names for them; a state dict has these names under `NAMES`. The arrays are
    read-only, because they are views of the file's bytes. Strings of Python 2 become text.

    Raises:
        ForbiddenCall: the file wants to call a function that no tensor needs.
        Exception: of any type; the file is damaged, or Paddle did not write it.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        machine = _Machine(size)
        for number, (opcode, argument, _) in enumerate(pickletools.genops(cast(BinaryIO, _BoundedFile(file, size)))):
            if number == _STEPS:
                raise pickle.UnpicklingError(f"it has more than {_STEPS} opcodes, which no weights need")
            if opcode.name not in _OPCODES:
                raise pickle.UnpicklingError(f"it has the opcode {opcode.name}, which no weights need")
            _OPCODES[opcode.name](machine, argument)
    (value,) = machine.pop()
    # A state dict has Paddle's names under `NAMES`. In other values each tensor is a pair (Paddle's name, array).
    pairs = type(value) not in (dict, OrderedDict) or NAMES not in value
    return _plain(value, pairs, {})


class _BoundedFile:
    """Limits reads to the file's size, so that a false length in the file cannot allocate more memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        return self._spend(self._file.read(min(size, self._left)))

    def readline(self) -> bytes:
        return self._spend(self._file.readline(min(_LINE, self._left)))

    def _spend(self, content: bytes) -> bytes:
        self._left -= len(content)
        return content


class _Machine:
    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        # The budget of bytes and items to copy. A value is copied at most twice: from text to bytes, and from the other
        # byte order. Only a file that repeats the same values exceeds it.
        self._copies = 2 * size

    def spend(self, count: int) -> None:
        self._copies -= count
        if self._copies < 0:
            raise pickle.UnpicklingError("its values are larger than the file")

    def pop(self, count: int = 1) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise pickle.UnpicklingError("it takes more values than it has")
        del self.stack[-count:]
        return items

    def pop_mark(self) -> list[Any]:
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def put_global(self, module: Any, name: Any) -> None:
        _check_type(module, str)
        _check_type(name, str)
        key = (module.replace("__builtin__", "builtins").replace("._core.", ".core."), name)
        if key not in _CALLS:
            raise ForbiddenCall(_shown(f"{module}.{name}"))
        self.stack.append(_Global(*key))

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        _check_type(function, _Global)
        _check_type(arguments, tuple)
        call = _CALLS[function.key]
        if not call:
            raise ForbiddenCall(_describe(function))
        self.stack.append(call(self, *arguments))

    def build(self) -> None:
        record, state = self.pop(2)
        _check_type(record, _Array, _Dtype)
        _check_type(state, tuple)
        record.build(self, *state)
        self.stack.append(record)

    def append(self, items: list[Any]) -> None:
        _check_type(self.stack[-1], list)
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        _check_type(self.stack[-1], dict, OrderedDict)
        if len(items) % 2:
            raise pickle.UnpicklingError("a name has no value")
        self.stack[-1].update(zip(map(_name, items[::2]), items[1::2]))

    def add_items(self, items: list[Any]) -> None:
        _check_type(self.stack[-1], set)
        self.stack[-1].update(map(_name, items))


class _Global:
    """The name of a function in the file; `_CALLS` has the replacement that is called."""

    def __init__(self, module: str, name: str) -> None:
        self.key = (module, name)


class _Dtype:
    """A dtype of real or complex numbers, or of booleans."""

    def __init__(self, code: Any) -> None:
        if type(code) is not str or code not in _CODES:
            raise ForbiddenCall(f"numpy.dtype of {_describe(code)}")
        self.numpy = np.dtype(code)

    def build(self, _: _Machine, *state: Any) -> None:
        version, order, subarray, names, fields, size, alignment, flags = state
        if not (subarray is names is fields is None):
            raise ForbiddenCall("numpy.dtype of a structure")
        if (version, size, alignment, flags) != (3, -1, -1, 0) or type(order) is not str or order not in _ORDERS:
            raise pickle.UnpicklingError("a dtype is not as NumPy writes it")
        self.numpy = self.numpy.newbyteorder(order)  # type: ignore[arg-type]


class _Array:
    """An array under construction; `_plain` takes the finished values."""

    values = None

    def build(self, machine: _Machine, version: Any, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
        if self.values is not None or version != 1:
            raise pickle.UnpicklingError("an array is not as NumPy writes it")
        _check_type(fortran, bool)
        self.values = _values(machine, shape, dtype, content, "F" if fortran else "C")


def check_shape(shape: Any, size: int) -> tuple[int, ...]:
    """Return the shape; raise ValueError unless it has `size` elements."""
    if type(shape) not in (tuple, list) or len(shape) > _DIMENSIONS:
        raise ValueError("an array has no shape")
    if any(type(length) is not int or length < 0 for length in shape) or math.prod(shape) != size:
        raise ValueError(f"an array's shape is not that of its {size} values")
    return tuple(shape)


def _values(machine: _Machine, shape: Any, dtype: Any, content: Any, order: Literal["C", "F"] = "C") -> np.ndarray:
    _check_type(dtype, _Dtype)
    if type(content) is str:  # written by Python 2
        machine.spend(len(content))
        content = content.encode("latin1")
    _check_type(content, bytes)
    machine.spend(len(content))
    count, rest = divmod(len(content), dtype.numpy.itemsize)
    if rest:
        raise pickle.UnpicklingError(f"an array has {rest} bytes more than values")
    # A view of the file's bytes, converted to this machine's byte order.
    values: np.ndarray = np.ndarray(check_shape(shape, count), dtype.numpy, content, order=order)
    return values if dtype.numpy.isnative else values.astype(dtype.numpy.newbyteorder("="))


# The replacements of the functions that Paddle and NumPy name in a pickle.


def _reconstruct(machine: _Machine, kind: Any, shape: Any, code: Any) -> _Array:
    if type(kind) is not _Global or (kind.key, shape) != (_NDARRAY, (0,)) or code not in (b"b", "b"):
        raise ForbiddenCall(f"numpy.core.multiarray._reconstruct for {_describe(kind)}")
    return _Array()


def _tuple(machine: _Machine, items: Any) -> tuple[Any, ...]:
    """Paddle's form of a tensor: the pair (name, array)."""
    _check_type(items, tuple)
    return items


def _set(machine: _Machine, items: Any) -> set[str]:
    _check_type(items, list)
    machine.spend(len(items))
    return set(map(_name, items))


def _ordered_dict(machine: _Machine, items: Any = ()) -> OrderedDict[str, Any]:
    """Python 2 passes the items as a list of lists, Python 3 passes none."""
    _check_type(items, list, tuple)
    machine.spend(len(items))
    return OrderedDict((_name(name), value) for name, value in items)


def _eval(machine: _Machine, source: Any, scope: Any = None) -> Any:
    """Paddle's form of a tensor of a static program; nothing is evaluated."""
    if type(source) is not str or source != "data" or type(scope) is not dict or len(scope) != 1 or "data" not in scope:
        raise ForbiddenCall(f"builtins.eval of {_describe(source)}")
    return scope["data"]


def _encode(machine: _Machine, text: Any, encoding: Any) -> bytes:
    """Protocol 2's form of bytes."""
    if type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        raise ForbiddenCall(f"_codecs.encode with {_describe(encoding)}")
    _check_type(text, str)
    machine.spend(len(text))
    return text.encode("latin1")


_NDARRAY = ("numpy", "ndarray")
_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "f16", "c8", "c16", "c32")
_ORDERS = ("<", ">", "|", "=")
_CALLS: dict[tuple[str, str], Callable[..., Any] | None] = {
    _NDARRAY: None,  # only an argument of `_reconstruct`
    ("numpy", "dtype"): lambda machine, code, align=False, copy=True: _Dtype(code),
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): lambda machine, dtype, content: _values(machine, (), dtype, content)[()],
    ("builtins", "tuple"): _tuple,
    ("builtins", "set"): _set,
    ("builtins", "bytes"): lambda machine: b"",  # protocol 2's form of empty bytes
    ("builtins", "eval"): _eval,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
}

# The opcodes of protocols 2 to 4, except those for Python's own classes and for recursive values.


def _push(machine: _Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _memoize(machine: _Machine, key: int | None) -> None:
    machine.memo[len(machine.memo) if key is None else key] = machine.stack[-1]


_OPCODES: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "NONE": _push,  # its argument is None
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _push),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop())),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop(3))),
    "APPEND": lambda machine, _: machine.append(machine.pop()),
    "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.pop_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, key: machine.stack.append(machine.memo[key])),
    # INST, the oldest form of a call, is here so that the function's name is refused.
    **dict.fromkeys(("GLOBAL", "INST"), lambda machine, argument: machine.put_global(*argument.split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.put_global(*machine.pop(2)),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}


def _plain(value: Any, pairs: bool, done: dict[int, Any], depth: int = 0) -> Any:
    """Replace `_Array`, and pairs (name, array) if `pairs`, by arrays. A value in several places is processed once."""
    kind = type(value)
    if kind in _SIMPLE or isinstance(value, np.generic):
        return value
    if kind is _Array and value.values is not None:
        return value.values
    if kind not in (dict, OrderedDict, list, tuple):
        raise pickle.UnpicklingError(f"it holds {_describe(value)}")
    if depth == _DEPTH:
        raise pickle.UnpicklingError(f"it is nested more than {_DEPTH} deep")
    if id(value) in done:
        return done[id(value)]
    if kind in (dict, OrderedDict):
        found = kind((name, _plain(item, pairs, done, depth + 1)) for name, item in value.items())
    else:
        found = kind([_plain(item, pairs, done, depth + 1) for item in value])
        if pairs and kind is tuple and list(map(type, found)) == [str, np.ndarray]:
            found = found[1]
    done[id(value)] = found
    return found


_SIMPLE = {type(None), bool, int, float, str, bytes, set}


def _name(value: Any) -> str:
    """Refuse a key that is not short text: numbers can be made to collide, and long equal texts are slow to compare."""
    _check_type(value, str)
    if len(value) > _NAME:
        raise pickle.UnpicklingError(f"a name is longer than {_NAME} characters")
    return value


def _check_type(value: Any, *kinds: type) -> None:
    if type(value) not in kinds:
        raise pickle.UnpicklingError(f"it has {_describe(value)} in place of {kinds[0].__name__.lstrip('_')}")


def _describe(value: Any) -> str:
    """A short description of a value for a message."""
    if type(value) is _Global:
        return ".".join(value.key)
    return _shown(repr(value[:40])) if type(value) is str else type(value).__name__.lstrip("_")


def _shown(text: str) -> str:
    """Text from the file for a message, short and without control characters."""
    return (text if text.isprintable() else repr(text))[:80]
