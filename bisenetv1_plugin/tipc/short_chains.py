"""The chains of the shorter files, which use trained weights: paddle2onnx, PTQ (8 bits), C++ and serving."""

from __future__ import annotations

import functools
from pathlib import Path

from bisenetv1_plugin.libraries import optional_library
from bisenetv1_plugin.tipc import own_folders
from bisenetv1_plugin.tipc.chain import Deployment, Run, config_of, has_masks
from bisenetv1_plugin.tipc.inputs import read_list
from bisenetv1_plugin.tipc.params import (
    CPP,
    PADDLE2ONNX,
    PTQ,
    SERVING,
    ShortParams,
    TipcError,
    check_count,
    check_name,
)
from bisenetv1_plugin.tipc.steps import Steps

_ONNX_LINES = (
    *("model_name", "python", "2onnx", "weights", "model", "params", "save_dir", "opset", "checker"),
    *("inference", "config", "images"),
)
_PTQ_LINES = (
    *("model_name", "python", "device", "weights", "save_dir", "config", "batch_nums", "batch_size"),
    *("", "trainer", "quantize", "", "infer_params", "inference", "infer_device", "infer_batch_size"),
    *("deploy", "images", "benchmark"),
)
_CPP_LINES = ("model_name", "python", "export", "weights", "save_dir", "source", "mode", "images")
_SERVING_LINES = ("model_name", "python", "export", "weights", "save_dir", "client", "server", "backend", "images")


def run_onnx(path: str | Path) -> tuple[Steps, list[Deployment], Path]:
    """Run the chain of a `..._paddle2onnx_python_linux_cpu.txt`: an ONNX model, and ONNX Runtime on the images.

    Returns:
        The steps, their exports, and the folder of the logs.

    Raises:
        TipcError: the file cannot be used.
    """
    params = ShortParams(path, PADDLE2ONNX, _ONNX_LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "paddle2onnx_infer"
    model = Path(params["save_dir"]) / "model.onnx"
    own_folders.check_export(model, model.parent, params.where("save_dir"))
    steps, deployment = _prepare(params, "onnx", config_of(params["2onnx"]), model.parent, folder, "paddle2onnx")
    options = [params.option(name) for name in ("weights", "opset", "checker", "save_dir")]
    if steps.run(params["2onnx"], options, folder / "trans_model.log", done=own_folders.is_new(model)):
        options = [params.option("config"), params.option("images")]
        _infer(params, steps, deployment, options, Run(folder / "onnxruntime_results", "onnxruntime"), "infer_onnx")
    return steps, [deployment], folder


def run_ptq(path: str | Path) -> tuple[Steps, list[Deployment], Path]:
    """Run the chain of a `train_ptq_infer_python.txt`: an export in 8 bits, and Paddle Inference on the images.

    Returns:
        See `run_onnx`.

    Raises:
        TipcError: the file cannot be used.
    """
    params = ShortParams(path, PTQ, _PTQ_LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "whole_infer"
    deploy = Path(params["deploy"])
    devices, batch_sizes = params["infer_device"].split("|"), params["infer_batch_size"].split("|")
    for device in devices:
        check_name(device, params.where("infer_device"))
    for batch_size in batch_sizes:
        check_count(batch_size, params.where("infer_batch_size"))
    own_folders.check_export(deploy, Path(params["save_dir"]), params.where("deploy"))
    config = config_of(f"{params['quantize']} {params.option('config')}")
    steps, deployment = _prepare(params, "int8", config, deploy.parent, folder, "python")
    options = [params.option(name) for name in ("device", "weights", "batch_nums", "batch_size", "config", "save_dir")]
    if steps.run(params["quantize"], options, folder / "export.log", done=own_folders.is_new(deploy)):
        for device in devices:
            for batch_size in batch_sizes:
                name = f"python_infer_{device}_batchsize_{batch_size}"
                options = [params.option("infer_device", device), params.option("infer_batch_size", batch_size)]
                options += [params.option(name) for name in ("deploy", "images", "benchmark")]
                _infer(params, steps, deployment, options, Run(folder / f"{name}_results", precision="int8"), name)
    return steps, [deployment], folder


def run_cpp(path: str | Path) -> tuple[Steps, list[Deployment], Path]:
    """Run the chain of a `..._infer_cpp_linux_cpu.txt`: an ONNX model with uint8 input, and a C++ program.

    Returns:
        See `run_onnx`.

    Raises:
        TipcError: the file cannot be used, or there is no CMake.
    """
    params = ShortParams(path, CPP, _CPP_LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "infer_cpp"
    model, source = Path(params["save_dir"]) / "picture.onnx", Path(params["source"])
    modes = params["mode"].split("|")
    for mode in modes:
        check_name(mode, params.where("mode"))
    if not (source / "CMakeLists.txt").is_file():
        raise TipcError(f"{params.where('source')}: there is no CMakeLists.txt in {source}, which is examples/cpp.")
    own_folders.check_export(model, model.parent, params.where("save_dir"))
    steps, deployment = _prepare(params, "cpp", config_of(params["export"]), model.parent, folder, "infer_cpp")
    options = [params.option(name) for name in ("weights", "save_dir")]
    done = own_folders.is_new(model)
    if steps.run(params["export"], options, folder / "export.log", done=done) and _build(steps, source, folder):
        for mode in modes:
            run = Run(folder / f"cpp_infer_cpu_mode_{mode}_results", "openvino")
            deployment.runs.append(run)
            command = [str(folder / "build/segment"), str(model.parent), params["images"]]
            command += [params.option("mode", mode), f"--save_dir={run.results}"]
            log = folder / f"cpp_infer_cpu_mode_{mode}.log"
            steps.run_program(command, log, done=functools.partial(has_masks, run.results))
    return steps, [deployment], folder


def _build(steps: Steps, source: Path, folder: Path) -> bool:
    """Build the C++ program with the OpenVINO of the Python package; return whether it succeeded."""
    build, openvino = folder / "build", optional_library("openvino.utils").get_cmake_path()
    command = ["cmake", "-S", str(source), "-B", str(build), f"-DOpenVINO_DIR={openvino}"]
    return steps.run_program(command, folder / "configure.log") and steps.run_program(
        ["cmake", "--build", str(build)], folder / "build.log", done=(build / "segment").is_file
    )


def run_serving(path: str | Path) -> tuple[Steps, list[Deployment], Path]:
    """Run the chain of a `..._serving_python_linux_cpu.txt`: an export, and `bisenetv1 serve` on the images.

    Returns:
        See `run_onnx`.

    Raises:
        TipcError: the file cannot be used.
    """
    params = ShortParams(path, SERVING, _SERVING_LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "serving_infer"
    deploy = Path(params["save_dir"]) / "deploy.yaml"
    backends = params["backend"].split("|")
    for backend in backends:
        check_name(backend, params.where("backend"))
    own_folders.check_export(deploy, deploy.parent, params.where("save_dir"))
    read_list(Path(params["images"]))  # fail before the export
    steps, deployment = _prepare(params, "serving", config_of(params["export"]), deploy.parent, folder, "serving")
    options = [params.option(name) for name in ("weights", "save_dir")]
    if steps.run(params["export"], options, folder / "export.log", done=own_folders.is_new(deploy)):
        for backend in backends:
            name = f"serving_cpu_backend_{backend}"
            server = f"{params['server']} {deploy.parent} {params.option('backend', backend)}"
            options = [f"--server={server}", params.option("images")]
            run = Run(folder / f"{name}_results", backend)
            _infer(params, steps, deployment, options, run, name, command="client")
    return steps, [deployment], folder


def _prepare(
    params: ShortParams, name: str, config: str, exported: Path, folder: Path, kind: str
) -> tuple[Steps, Deployment]:
    """Return the steps, with an empty log folder, and the deployment."""
    deployment = Deployment(name, config, Path(params["weights"]), exported, Path(params["images"]))
    reads: list[str | Path] = [params.path, deployment.config, deployment.weights, deployment.images]
    return Steps(params["model_name"], params["python"], folder, f"results_{kind}.log", reads), deployment


def _infer(
    params: ShortParams,
    steps: Steps,
    deployment: Deployment,
    options: list[str],
    run: Run,
    name: str,
    command: str = "inference",
) -> None:
    """Infer the images into the run's folder with the command of a line."""
    deployment.runs.append(run)
    options = [*options, f"--save_dir={run.results}"]
    log = run.results.with_name(f"{name}.log")
    steps.run(params[command], options, log, done=functools.partial(has_masks, run.results))
