"""A TIPC chain: train, evaluate, export and infer with every option of the file.

The commands are those of the standard (PaddleSeg's test_tipc/test_train_inference_python.sh). In a PaddleSeg checkout
they run its tools, elsewhere this package's tools with the same flags. A step succeeds only if its exit code is 0 and
it has written its output.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

from bisenetv1_plugin.tipc.params import BENCHMARK, Params, TipcError, check_save_dir, split_command
from bisenetv1_plugin.tipc.steps import Steps

# Relative tolerance between losses under to_static and in dygraph, which sum in different orders.
LOSS_TOLERANCE = 1e-3

# The standard's name of this trainer: norm_train under to_static.
STATIC = "to_static_train"

# Lines that name inputs.
_READ = ("train_images", "infer_weights", "infer_images")


@dataclass
class Run:
    """One inference run.

    Attributes:
        results: folder of its masks.
        backend: key of `inference.runtimes.RUNTIMES`.
        options: keyword arguments for a runtime with the same logits; None if there is none, as for TensorRT.
        precision: 'fp32', 'fp16' or 'int8'. Reduced precisions may change the results slightly.
    """

    results: Path
    backend: str = "paddle"
    options: dict[str, Any] | None = field(default_factory=dict)
    precision: str = "fp32"


@dataclass
class Deployment:
    """An exported model, its weights and configuration, and its inference runs."""

    name: str
    config: str
    weights: Path
    folder: Path
    images: Path
    runs: list[Run] = field(default_factory=list)


class Chain:
    """A chain of train, export and inference commands.

    Args:
        params: the file and mode.
        case: case of a benchmark; each case has a folder.

    Attributes:
        steps: runs and logs the commands, in test_tipc/output/MODEL/MODE/CASE under the working directory.
        deployments: the exports and their inference runs, for the verdict.
    """

    def __init__(self, params: Params, case: str = "") -> None:
        self.params = params
        self.folder = Path("test_tipc/output") / params.value("model_name") / params.mode / case
        if params.mode != "whole_infer" and not params.values("train_device"):
            raise TipcError(f"{params.where('train_device')}: it names no device. Use `null` to omit it.")
        for name in ("save_dir", "export_dir", "result_dir"):
            check_save_dir(params.key(name), params.where(name))
        if not case:
            self._check()
        reads: list[str | Path] = [params.path, *(path for name in _READ for path in params.values(name))]
        self.steps = Steps(params.value("model_name"), params.value("python"), self.folder, "results_python.log", reads)
        self.deployments: list[Deployment] = []

    def _check(self) -> None:
        """Raise TipcError if the file cannot be run, before anything is removed."""
        params = self.params
        if params.mode == BENCHMARK:
            raise TipcError(f"{BENCHMARK} is run by test_tipc/benchmark_train.sh.")
        if params.mode != "whole_infer":
            exports = [self._trainer(name)[1] for name in params.values("trainers")]
        else:
            exports = params.values("infer_export")
            if len({len(params.values(name)) for name in ("infer_weights", "infer_export", "infer_quantized")}) > 1:
                raise TipcError(f"{params.path}: infer_model, infer_export and infer_quant need equally many values.")
            if "null" in exports:
                raise TipcError(f"{params.path}: infer_export is null, so there are no weights to compare with.")
        for command in exports:
            if command != "null":
                config_of(command)

    def run(self) -> None:
        self.steps.say(f"------------------------ {self.params.mode} ------------------------")
        if self.params.mode == "whole_infer":
            self._export_weights()
        else:
            self._train_all()

    def _export_weights(self) -> None:
        """Export and infer the weights that prepare.sh has written, in modes without training."""
        params, images = self.params, Path(self.params.value("infer_images"))
        lines = [params.values(name) for name in ("infer_weights", "infer_export", "infer_quantized")]
        for number, (weights, export, quantized) in enumerate(zip(*lines)):
            folder = self.folder / f"exported_{number}"
            self._export_and_infer(folder.name, export, Path(weights), folder, images, quantized == "True")

    def _train_all(self) -> None:
        params, pretrained = self.params, None
        logs: dict[tuple[str, ...], Path] = {}
        devices = params.values("train_device")
        for number, gpus in enumerate(params.values("gpu_list")):
            device = devices[min(number, len(devices) - 1)]
            for precision in params.values("precision"):
                for trainer in params.values("trainers"):
                    train, export = self._trainer(trainer)
                    if train == "null":
                        continue
                    folder = self.folder / f"{trainer}_gpus_{gpus.replace(';', '_')}_autocast_{precision}"
                    needs_weights = trainer in (params.key("pact_train"), params.key("fpgm_train"))
                    amount = params.mode_value("iters"), params.mode_value("train_batch_size")
                    weights = self.train(
                        train, gpus, device, precision, folder, *amount, pretrained if needs_weights else None
                    )
                    if weights is None:
                        continue
                    logs[trainer, gpus, precision] = self.log_of(folder)
                    if trainer == params.key("norm_train"):
                        pretrained = weights
                    self._evaluate(weights, device, folder)
                    if export != "null":
                        quantized = trainer == params.key("pact_train")
                        images = Path(params.value("train_images"))
                        self._export_and_infer(folder.name, export, weights, folder, images, quantized)
        for (trainer, *rest), log in logs.items():
            dygraph = logs.get((params.key("norm_train"), *rest))
            if trainer == STATIC:
                fault = losses_differ(log, dygraph) if dygraph else "there is no training in dygraph to compare with."
                self.steps.check(f"losses of {log} and {dygraph}", fault)

    def _trainer(self, name: str) -> tuple[str, str]:
        """Return the train and export commands for one entry of the trainer list."""
        params = self.params
        if name == STATIC:
            arguments = dict(params.block("to_static_train_benchmark_params")).get(STATIC)
            if not arguments or params.key("norm_train") not in params.values("trainers"):
                raise TipcError(
                    f"{params.path}: {STATIC} needs a line `{STATIC}:ARGUMENTS` in a block "
                    "to_static_train_benchmark_params, and norm_train among the trainers to compare its losses with."
                )
            return f"{params.value('norm_train')} {arguments}", params.value("norm_export")
        for train, export in (
            ("norm_train", "norm_export"),
            ("pact_train", "pact_export"),
            ("fpgm_train", "fpgm_export"),
            ("distill_train", "distill_export"),
            ("trainer1", "export1"),
            ("trainer2", "export2"),
        ):
            if name == params.key(train):
                return params.value(train), params.value(export)
        return params.value("norm_train"), params.value(
            "norm_export"
        )  # as in the standard, for `norm` and similar names

    def log_of(self, folder: Path) -> Path:
        """Return the log file of the training in this folder."""
        return self.folder / f"{folder.name}.log"

    def train(
        self,
        command: str,
        gpus: str,
        device: str,
        precision: str,
        folder: Path,
        iters: str,
        batch_size: str,
        pretrained: Path | None = None,
    ) -> Path | None:
        """Train, and return the weights if there are any; `steps` has whether the command succeeded."""
        params = self.params
        start = []
        if "," in gpus:
            machines, _, devices = gpus.rpartition(";")
            start = ["-m", "paddle.distributed.launch", "--log_dir", str(folder / "log")]
            start += [f"--ips={machines}"] if machines else []
            if device == "cpu":
                start += [f"--nproc_per_node={len(devices.split(','))}", "--backend=gloo"]
            else:
                start += [f"--devices={devices}"]
        options = [
            params.option("train_device", device),
            params.option("iters", iters),
            params.option("pretrained", str(pretrained) if pretrained else None),
            params.option("precision", precision),
            params.option("train_batch_size", batch_size),
            params.option("train_option"),
            params.option("save_dir", str(folder)),  # last, because the last --save_dir is used
        ]
        environment = {} if device == "cpu" or "," in gpus else {"CUDA_VISIBLE_DEVICES": gpus}
        candidates = [folder / params.value("weights_name"), folder / f"iter_{iters}" / "model.pdparams"]
        self.steps.run(
            command, options, self.log_of(folder), start, environment, lambda: any(map(Path.is_file, candidates))
        )
        return next(filter(Path.is_file, candidates), None)

    def _evaluate(self, weights: Path, device: str, folder: Path) -> None:
        if self.params.value("eval") != "null":
            params, log = self.params, self.folder / f"{folder.name}_eval.log"
            options = [params.option("pretrained", str(weights)), params.option("train_device", device)]
            options.append(params.option("eval_option"))
            self.steps.run(
                params.value("eval"),
                options,
                log,
                done=lambda: "mIoU" in log.read_text(encoding="utf-8", errors="replace"),
            )

    def _export_and_infer(
        self, name: str, command: str, weights: Path, folder: Path, images: Path, quantized: bool
    ) -> None:
        options = [self.params.option("export_weights", str(weights)), self.params.option("export_dir", str(folder))]
        deploy = folder / "deploy.yaml"
        if self.steps.run(command, options, self.folder / f"{name}_export.log", done=deploy.is_file):
            self._infer(Deployment(name, config_of(command), weights, folder, images), quantized)

    def _infer(self, deployment: Deployment, quantized: bool) -> None:
        self.deployments.append(deployment)
        for name, precision, ours, options in self._inference_options(quantized):
            results = self.folder / f"{deployment.name}_{name}_results"
            log = self.folder / f"{deployment.name}_{name}.log"
            options = [
                *options,
                self.params.option("infer_config", str(deployment.folder / "deploy.yaml")),
                self.params.option("infer_images", str(deployment.images)),
                self.params.option("benchmark"),
                self.params.option("infer_option"),
                self.params.option("result_dir", str(results)),  # the last one counts
            ]
            deployment.runs.append(Run(results, options=ours, precision=precision))
            self.steps.run(self.params.value("inference"), options, log, done=functools.partial(has_masks, results))

    def _inference_options(self, quantized: bool) -> Iterator[tuple[str, str, dict[str, Any] | None, list[str]]]:
        """Yield name, precision, options of our runtime and arguments for each combination of the standard."""
        params = self.params
        for device in params.values("infer_device"):
            on_cpu = device in ("cpu", "False")
            for first in params.values("mkldnn" if on_cpu else "tensorrt"):
                for threads in params.values("threads") if on_cpu else [""]:
                    for precision in params.values("infer_precision"):
                        if not _is_standard(on_cpu, first == "True", precision, quantized):
                            continue
                        for batch in params.values("infer_batch_size"):
                            how = f"cpu_usemkldnn_{first}_threads_{threads}" if on_cpu else f"gpu_usetrt_{first}"
                            name = f"python_infer_{how}_precision_{precision}_batchsize_{batch}"
                            ours: dict[str, Any] | None = {"device": "gpu"}
                            if on_cpu:
                                ours = {"enable_mkldnn": first == "True"}
                            elif first == "True":
                                ours = None
                            yield (
                                name,
                                precision,
                                ours,
                                [
                                    params.option("infer_device", device),
                                    params.option("mkldnn" if on_cpu else "tensorrt", first),
                                    params.option("threads", threads) if on_cpu else "",
                                    params.option("infer_precision", precision),
                                    params.option("infer_batch_size", batch),
                                ],
                            )


def _is_standard(on_cpu: bool, accelerated: bool, precision: str, quantized: bool) -> bool:
    """Tell whether the standard runs this combination. `accelerated`: oneDNN on CPUs, TensorRT on GPUs."""
    if (precision == "int8") != quantized:
        return False
    return precision == "fp32" or (accelerated and not (on_cpu and precision == "fp16"))


def config_of(command: str) -> str:
    """Return the --config of a command."""
    arguments = split_command(command.replace("=", " "), "the parameter file")
    if "--config" not in arguments[:-1]:
        raise TipcError(f"`{command}` has no --config, which the comparison needs.")
    return arguments[arguments.index("--config") + 1]


def losses(log: Path) -> list[float]:
    """Return the losses in the log of a training, including NaN."""
    return [float(loss) for loss in re.findall(r"\[TRAIN\].*?\bloss: ([^\s,]+)", log.read_text(encoding="utf-8"))]


def losses_differ(log: Path, other: Path) -> str | None:
    """Return a sentence if the losses of two trainings differ, else None."""
    ours, theirs = losses(log), losses(other)
    if not ours or len(ours) != len(theirs):
        return f"{log} has {len(ours)} losses and {other} {len(theirs)}."
    for number, (a, b) in enumerate(zip(ours, theirs)):
        if not abs(a - b) <= LOSS_TOLERANCE * abs(b):  # so that NaN is not equal
            return f"the losses differ from line {number + 1} on: {a} and {b}."
    return None


def has_masks(folder: Path) -> bool:
    """Tell whether the folder has any masks."""
    return any(folder.glob("*.png"))
