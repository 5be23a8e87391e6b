"""The guards around PaddleSeg's `train`, and what they share. It is no guard itself.

A tool imports the name `train` before it builds a network. Replacing that name in `paddleseg.core` would come too late.
So the function object stays, and its code is replaced: it calls `dispatch`. PaddleSeg's own code moves into a copy.
"""

from __future__ import annotations

import ast
import inspect
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any, Callable, ContextManager, Iterator, Sequence

import paddleseg.core

_PACKAGE = __name__.partition(".")[0]


@dataclass
class Call:
    """A call of PaddleSeg's `train`. Guards may change it before it starts.

    Attributes:
        arguments: all arguments by name, including defaults.
        first_statements: Python statements that run inside `train`, before its loop.
    """

    arguments: dict[str, Any]
    first_statements: list[str] = field(default_factory=list)


Guard = Callable[[Call], ContextManager[None]]
_guards: list[Guard] = []


def module() -> ModuleType:
    """The module of PaddleSeg's `train`. `paddleseg.core.train` is the function, not the module."""
    return sys.modules[function().__module__]


def function() -> FunctionType:
    """PaddleSeg's own `train`, without guards."""
    return inspect.unwrap(paddleseg.core.train)


def names() -> set[str]:
    """The global names and attributes that PaddleSeg's `train` uses."""
    return set(function().__code__.co_names)


def add_guard(guard: Guard) -> None:
    """Run `train` inside this guard from now on. It is entered after the guards that were added before."""
    if not _guards:
        _replace_code(function())
    _guards.append(guard)


def train_with_guards(*args: Any, **kwargs: Any) -> None:
    """Run PaddleSeg's `train` with all guards, for any network."""
    own = function()
    bound = inspect.signature(own).bind(*args, **kwargs)
    bound.apply_defaults()
    call = Call(bound.arguments)
    with ExitStack() as stack:
        for guard in _guards:
            stack.enter_context(guard(call))
        if call.first_statements:
            stack.enter_context(statements_before_loop(call.first_statements))
        own(*bound.args, **bound.kwargs)


def _replace_code(own: FunctionType) -> None:
    copy = FunctionType(own.__code__, own.__globals__, own.__name__, own.__defaults__)
    copy.__kwdefaults__, copy.__module__, copy.__doc__ = own.__kwdefaults__, own.__module__, own.__doc__
    own.__code__, own.__defaults__, own.__kwdefaults__ = _replacement.__code__, None, None
    vars(own)["__wrapped__"] = copy  # `inspect` reads signature and source from here


def _replacement(*args: Any, **kwargs: Any) -> None:
    # This code runs with the globals of PaddleSeg's module.
    from bisenetv1_plugin.compat import core_train

    core_train.dispatch(*args, **kwargs)


def dispatch(*args: Any, **kwargs: Any) -> None:
    """Run PaddleSeg's `train`, with the guards if the network or a loss is from this package."""
    own = function()
    arguments = inspect.signature(own).bind(*args, **kwargs).arguments
    losses = (arguments.get("losses") or {}).get("types", ())
    is_ours = any(_is_ours(part) for part in (arguments["model"], *losses))
    (train_with_guards if is_ours else own)(*args, **kwargs)


def _is_ours(layer: object) -> bool:
    return any(kind.__module__.partition(".")[0] == _PACKAGE for kind in type(layer).__mro__)


class ModuleView:
    """A module with some names replaced. The module itself stays unchanged for all other importers."""

    def __init__(self, original: object, **names: object) -> None:
        self._original = original
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@contextmanager
def patch(namespace: dict[str, Any], name: str, value: object) -> Iterator[None]:
    """Set a name to another value for the duration of the block. The name need not exist before."""
    missing = object()
    before = namespace.get(name, missing)
    namespace[name] = value
    try:
        yield
    finally:
        if before is missing:
            del namespace[name]
        else:
            namespace[name] = before


def definition() -> ast.FunctionDef:
    """The source of PaddleSeg's own `train`, parsed."""
    lines, first = inspect.getsourcelines(function())
    (found,) = ast.increment_lineno(ast.parse("".join(lines)), first - 1).body
    assert isinstance(found, ast.FunctionDef)
    return found


@contextmanager
def statements_before_loop(statements: Sequence[str]) -> Iterator[None]:
    """Insert these statements before the loop of PaddleSeg's `train` for the duration of the block."""
    own, tree = function(), definition()
    code = own.__code__
    loop = next(number for number, statement in enumerate(tree.body) if isinstance(statement, ast.While))
    added = ast.parse("\n".join(statements)).body
    for statement in added:
        for node in ast.walk(statement):
            ast.copy_location(node, tree.body[loop])
    tree.body[loop:loop] = added
    constants = compile(ast.Module([tree], []), code.co_filename, "exec").co_consts
    own.__code__ = next(
        constant for constant in constants if isinstance(constant, CodeType) and constant.co_name == own.__name__
    )
    try:
        yield
    finally:
        own.__code__ = code
