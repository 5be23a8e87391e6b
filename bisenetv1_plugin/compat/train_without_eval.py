"""PaddleSeg 2.9's `train` without validation data: every checkpoint wants `mean_iou`, which only an evaluation sets."""

from __future__ import annotations

import ast
import functools
import inspect
import logging
import sys
from types import FunctionType
from typing import Any

import paddleseg.core

logger = logging.getLogger(__name__)

DEFECT = (
    "PaddleSeg 2.9.1's train.py without --do_eval fails at its first checkpoint, for every model "
    "(UnboundLocalError: mean_iou; fixed in develop)."
)

_SET_BY_EVALUATION = "mean_iou = acc = ema_mean_iou = ema_acc = None"


def needed() -> bool:
    return "states_dict" in paddleseg.core.train.__code__.co_varnames and _reads_mean_iou(_definition(_tree()).body)


def apply() -> None:
    """Put a `train` in place that has these variables set, for the calls that evaluate nothing."""
    original = paddleseg.core.train
    without_eval = _with_variables_set(original)

    @functools.wraps(original)
    def train(*args: Any, **kwargs: Any) -> None:
        if inspect.signature(original).bind(*args, **kwargs).arguments.get("val_dataset") is not None:
            return original(*args, **kwargs)
        logger.info("bisenetv1-plugin corrects train() of this PaddleSeg, which fails without an evaluation.")
        return without_eval(*args, **kwargs)

    paddleseg.core.train = vars(sys.modules[original.__module__])["train"] = train


def _tree() -> ast.Module:
    source, first_line = inspect.getsourcelines(paddleseg.core.train)
    return ast.increment_lineno(ast.parse("".join(source)), first_line - 1)


def _definition(tree: ast.Module) -> ast.FunctionDef:
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    return definition


def _reads_mean_iou(statements: list[ast.stmt]) -> bool:
    """Whether `states_dict = {... mean_iou ...}` stands where no `if val_dataset` guards it."""
    for statement in statements:
        names = {node.id for node in ast.walk(getattr(statement, "test", statement)) if isinstance(node, ast.Name)}
        if isinstance(statement, ast.Assign) and {"states_dict", "mean_iou"} <= names:
            return True
        guarded = isinstance(statement, ast.If) and "val_dataset" in names
        if not guarded and _reads_mean_iou(getattr(statement, "body", [])):
            return True
    return False


def _with_variables_set(function: FunctionType) -> FunctionType:
    tree = _tree()
    _definition(tree).body[:0] = ast.parse(_SET_BY_EVALUATION).body
    namespace: dict[str, Any] = {}
    exec(compile(tree, function.__code__.co_filename, "exec"), function.__globals__, namespace)
    return namespace[function.__name__]
