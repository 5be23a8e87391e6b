"""PaddleSeg writes `model: model.pdmodel` into deploy.yaml, but Paddle 3 saves `model.json`.

The name is corrected when deploy.yaml is written, so that machines without the plugin can read it. It is also corrected
when an older deploy.yaml is read.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any, Callable

import paddle
import yaml
from paddleseg.deploy.infer import DeployConfig

logger = logging.getLogger(__name__)

DEFECT = "PaddleSeg's export names model.pdmodel in deploy.yaml, where Paddle 3 writes model.json: nothing can load it."


def needed() -> bool:
    return paddle.framework.use_pir_api()


def apply() -> None:
    yaml.dump = _wrap_dump(yaml.dump)
    DeployConfig.model = property(_program)


def _wrap_dump(dump: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(dump)
    def corrected_dump(data: Any, stream: Any = None, *args: Any, **kwargs: Any) -> Any:
        return dump(_correct(data, getattr(stream, "name", None)), stream, *args, **kwargs)

    return corrected_dump


def _correct(data: Any, path: object) -> Any:
    """`data`, or a copy with the name of the program in the folder if it is a deploy.yaml that names another."""
    deploy = data.get("Deploy") if isinstance(data, dict) else None
    if not (isinstance(path, str) and isinstance(deploy, dict) and isinstance(deploy.get("model"), str)):
        return data
    named = os.path.join(os.path.dirname(path), deploy["model"])
    program = present_program(named)
    if program == named:
        return data
    logger.info(f"bisenetv1-plugin writes model: {os.path.basename(program)} into {path}: Paddle saved this file.")
    return {**data, "Deploy": {**deploy, "model": os.path.basename(program)}}


def _program(self: DeployConfig) -> str:
    named = os.path.join(self._dir, self.dic["Deploy"]["model"])
    program = present_program(named)
    if program != named:
        logger.info(
            f"bisenetv1-plugin reads {program} instead of {named}, which deploy.yaml names but Paddle 3 did not write."
        )
    return program


def present_program(named: str) -> str:
    """The .json of the same name if the .pdmodel is missing, or older because Paddle 2 wrote it; else `named`."""
    stem, extension = os.path.splitext(named)
    program = stem + ".json"
    if extension != ".pdmodel" or not os.path.isfile(program):
        return named
    if os.path.isfile(named) and os.path.getmtime(named) >= os.path.getmtime(program):
        return named
    return program
