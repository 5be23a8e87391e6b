"""ONNX Runtime and OpenVINO, with the interface of `Predictor`: `transforms`, and `run(images)`."""

import numpy as np

from bisenetv1_plugin.tools.errors import UserError
from bisenetv1_plugin.tools.predictor import Export, Predictor


class OnnxRuntime:
    """Runs an export's ONNX model with ONNX Runtime; arguments and errors as `Predictor` has them."""

    def __init__(self, deploy_yaml, device="cpu", cpu_threads=1, precision="fp32"):
        onnxruntime = _library("onnxruntime")
        export = _with_onnx(deploy_yaml)
        if precision != "fp32":
            raise UserError(
                f"--precision {precision}: ONNX Runtime computes this model in fp32 only. "
                "--backend openvino and --backend paddle have bf16 on the CPU."
            )
        provider = "CUDAExecutionProvider" if device == "gpu" else "CPUExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            raise UserError("--device gpu needs onnxruntime-gpu; this ONNX Runtime has no CUDA: give --device cpu.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_threads
        options.log_severity_level = 3  # errors; the converter leaves constants nobody uses, a warning each
        self.transforms = export.transforms
        try:
            self._session = onnxruntime.InferenceSession(export.onnx, options, providers=[provider])
        except Exception as error:
            raise UserError(f"ONNX Runtime cannot load {export.onnx}: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def run(self, images):
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives."""
        return self._session.run(None, {self._input: np.ascontiguousarray(images, dtype="float32")})[0]


class OpenVINO:
    """Runs an export's ONNX model with OpenVINO on the CPU; arguments and errors as `Predictor` has them."""

    def __init__(self, deploy_yaml, device="cpu", cpu_threads=1, precision="fp32"):
        openvino = _library("openvino")
        export = _with_onnx(deploy_yaml)
        if device == "gpu":
            raise UserError("--backend openvino runs on no NVIDIA GPU: give --device cpu.")
        core = openvino.Core()
        if precision not in ("fp32", "bf16"):
            raise UserError(f"--precision {precision}: OpenVINO runs in fp32 or bf16 here.")
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UserError("--precision bf16: OpenVINO finds no bf16 in this processor: use fp32.")
        # Said in both cases: where the processor has bf16, OpenVINO takes it unless told otherwise.
        hint = {"fp32": "f32", "bf16": "bf16"}[precision]
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": cpu_threads}
        self.transforms = export.transforms
        try:
            self._model = core.compile_model(export.onnx, "CPU", options)
        except Exception as error:
            raise UserError(f"OpenVINO cannot load {export.onnx}: {error}") from error

    def run(self, images):
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives."""
        return self._model(np.ascontiguousarray(images, dtype="float32"))[0]


BACKENDS = {"paddle": Predictor, "onnxruntime": OnnxRuntime, "openvino": OpenVINO}


def _with_onnx(deploy_yaml):
    export = deploy_yaml if isinstance(deploy_yaml, Export) else Export(deploy_yaml)
    if not export.onnx:
        raise UserError(f"{export.path} names no ONNX model: export with `bisenetv1 export --to onnx`.")
    return export


def _library(name):
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"--backend {name} needs the package {name}: pip install 'bisenetv1-plugin[deploy]' ({error})."
        ) from error
