"""An exported model: what its `deploy.yaml` names."""

from __future__ import annotations

import os
from typing import Any

import yaml
from paddleseg.deploy.infer import DeployConfig

from bisenetv1_plugin.deploy.preparing import Preparation
from bisenetv1_plugin.errors import InputError


class Export:
    """What the `deploy.yaml` of an exported folder names.

    Attributes:
        path (str): the `deploy.yaml` itself.
        folder (str): where it lies.
        program, params (str, optional): Paddle's files; None for what another runtime's quantiser has made.
        onnx (str, optional): the ONNX model; None if it was exported without one.
        openvino (str, optional): OpenVINO's model in 8 bits; None if it is none.
        prepare (Preparation): pixels to what the network takes.
        transform_list (list[dict]): its transforms, as in the configuration.
        output_op (str): 'argmax', 'softmax' or 'none'.
        quantised (bool): in 8 bits: `quantize.save` has made it.
        precision (str): what it is computed in unless asked otherwise: 'int8' if it is quantised, else 'fp32'.
        input_shape (list[int]): `[N, C, H, W]`; None where any number will do.
        classes (tuple[str]): the names of the classes, by number; empty where the export names none, as upstream's.
        colors (tuple): their colours, RGB 0..255; empty for PaddleSeg's.

    Raises:
        InputError: it is not there, or names files that are not.
    """

    def __init__(self, deploy_yaml: str | os.PathLike[str]) -> None:
        path = os.fspath(deploy_yaml)
        if not os.path.isfile(path):
            raise InputError(f"there is no {path}: name the deploy.yaml of an export.")
        try:
            with open(path, encoding="utf-8") as file:
                values = yaml.safe_load(file)["Deploy"]
        except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not the deploy.yaml of an export: it has no `Deploy:` part.") from error
        deploy = DeployConfig(path)
        self.path = path
        self.folder = os.path.dirname(path)
        self.program: str | None = deploy.model if values.get("model") else None
        self.params: str | None = deploy.params if values.get("model") else None
        self.prepare = Preparation(deploy.transforms)
        self.onnx = os.path.join(self.folder, values["onnx"]) if values.get("onnx") else None
        self.openvino = os.path.join(self.folder, values["openvino"]) if values.get("openvino") else None
        self.transform_list: list[dict[str, Any]] = values["transforms"]
        self.quantised = values.get("precision") == "int8"
        self.precision = "int8" if self.quantised else "fp32"
        self.output_op: str = values.get("output_op", "argmax")
        self.input_shape = [size if size and size > 0 else None for size in values.get("input_shape") or [None] * 4]
        self.classes: tuple[str, ...] = tuple(map(str, values.get("classes") or ()))
        self.colors: tuple[tuple[int, ...], ...] = tuple(map(tuple, values.get("colors") or ()))
        for file_path in filter(None, (self.program, self.params, self.onnx, self.openvino)):
            if not os.path.isfile(file_path):
                raise InputError(f"{path} names {file_path}, and there is no such file: export again.")

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """Why an array of this `[N, C, H, W]` cannot be run, in a sentence; None if it can."""
        names = ("images at a time", "channels", "pixels of height", "pixels of width")
        for have, need, name in zip(shape, self.input_shape, names):
            if need and have != need:
                cure = "`bisenetv1 export` without --input_shape takes any"
                if name == "channels":
                    cure = "images are read as RGB: train with in_channels: 3"
                return f"the export takes {need} {name}, not {have}; {cure}"
        return None

    def onnx_model(self) -> str:
        """The path of the ONNX model.

        Raises:
            InputError: it was exported without one.
        """
        if not self.onnx:
            raise InputError(f"{self.path} names no ONNX model: export with `bisenetv1 export --to onnx`.")
        return self.onnx
