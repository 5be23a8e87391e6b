"""PaddleSeg 2.9's `train` fails without an evaluation: every checkpoint reads `mean_iou`, which is not set."""

from __future__ import annotations

import ast
import logging
from contextlib import contextmanager
from typing import Iterator, Sequence

from bisenetv1_plugin.compat import core_train

logger = logging.getLogger(__name__)

DEFECT = (
    "PaddleSeg 2.9.1's train.py without --do_eval fails at its first checkpoint, for every model "
    "(UnboundLocalError: mean_iou; fixed in develop)."
)

_SET_BY_EVALUATION = "mean_iou = acc = ema_mean_iou = ema_acc = None"


def needed() -> bool:
    has_states = "states_dict" in core_train.function().__code__.co_varnames
    return has_states and _reads_mean_iou(core_train.definition().body)


def apply() -> None:
    core_train.add_guard(_define_variables)


@contextmanager
def _define_variables(call: core_train.Call) -> Iterator[None]:
    if call.arguments["val_dataset"] is None:
        logger.info("bisenetv1-plugin corrects train() of this PaddleSeg, which fails without an evaluation.")
        call.first_statements.append(_SET_BY_EVALUATION)
    yield


def _reads_mean_iou(statements: Sequence[ast.stmt]) -> bool:
    """Whether `states_dict = {... mean_iou ...}` is outside any `if val_dataset`."""
    for statement in statements:
        names = {node.id for node in ast.walk(getattr(statement, "test", statement)) if isinstance(node, ast.Name)}
        if isinstance(statement, ast.Assign) and {"states_dict", "mean_iou"} <= names:
            return True
        guarded = isinstance(statement, ast.If) and "val_dataset" in names
        if not guarded and _reads_mean_iou(getattr(statement, "body", [])):
            return True
    return False
