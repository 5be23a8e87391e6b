"""An exported model, and Paddle Inference to run it; `backends.py` has the other runtimes."""

import os

import numpy as np
import paddle
import yaml
from paddleseg.deploy.infer import DeployConfig

from bisenetv1_plugin.tools.errors import UserError


class Export:
    """What the `deploy.yaml` of an exported folder names.

    Attributes:
        program, params (str): Paddle's files.
        onnx (str, optional): the ONNX model; None if it was exported without one.
        transforms (callable): `{"img": path or float32 BGR [H, W, 3]}` -> `img` float32 `[C, H, W]`, `trans_info`.
        transform_list (list[dict]): the same as in the configuration.
        output_op (str): 'argmax', 'softmax' or 'none'.
        quantised (bool): `bisenetv1 quantize` has made it.
        input_shape (list[int]): `[N, C, H, W]`; None where any number will do.

    Raises:
        UserError: it is not there, or names files that are not.
    """

    def __init__(self, deploy_yaml):
        if not os.path.isfile(deploy_yaml):
            raise UserError(
                f"--config names {deploy_yaml}, and there is no such file: name the deploy.yaml of an export."
            )
        try:
            with open(deploy_yaml, encoding="utf-8") as file:
                values = yaml.safe_load(file)["Deploy"]
        except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UserError(f"{deploy_yaml} is not the deploy.yaml of an export: it has no `Deploy:` part.") from error
        deploy = DeployConfig(deploy_yaml)
        self.path = deploy_yaml
        self.program, self.params, self.transforms = deploy.model, deploy.params, deploy.transforms
        self.onnx = os.path.join(os.path.dirname(deploy_yaml), values["onnx"]) if values.get("onnx") else None
        self.transform_list = values["transforms"]
        self.quantised = values.get("precision") == "int8"
        self.output_op = values.get("output_op", "argmax")
        self.input_shape = [size if size and size > 0 else None for size in values.get("input_shape") or [None] * 4]
        for path in filter(None, (self.program, self.params, self.onnx)):
            if not os.path.isfile(path):
                raise UserError(f"{deploy_yaml} names {path}, and there is no such file: export again.")

    def misfit(self, shape):
        """Why an array of this `[N, C, H, W]` cannot be run, in a sentence; None if it can."""
        names = ("images at a time", "channels", "pixels of height", "pixels of width")
        for have, need, name in zip(shape, self.input_shape, names):
            if need and have != need:
                return f"the export takes {need} {name}, not {have}; `bisenetv1 export` without --input_shape takes any"


class Predictor:
    """Runs an export with Paddle Inference.

    Args:
        deploy_yaml (str | Export): the `deploy.yaml` of the exported folder.
        device (str): 'cpu' or 'gpu'.
        cpu_threads (int): threads on the CPU.
        enable_mkldnn (bool): use oneDNN on the CPU.
        precision (str): 'fp32', or on the CPU (with oneDNN) 'bf16' or, for a quantised export, 'int8', or with TensorRT
            'fp16' or 'int8'.
        tensorrt (callable, optional): configures TensorRT, see `tensorrt.configure`.

    Raises:
        UserError: a file of the exported model is missing or cannot be used, or this machine has not what was asked.
    """

    def __init__(self, deploy_yaml, device="cpu", cpu_threads=1, enable_mkldnn=False, precision="fp32", tensorrt=None):
        from paddle import inference

        export = deploy_yaml if isinstance(deploy_yaml, Export) else Export(deploy_yaml)
        self.transforms = export.transforms
        config = inference.Config(export.program, export.params)
        config.disable_glog_info()
        config.enable_memory_optim()
        if export.program.endswith(".json"):  # a program of Paddle 3
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        if device == "gpu":
            _check_gpu()
            config.enable_use_gpu(100, 0)
            if tensorrt:
                tensorrt(config)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(cpu_threads)
            # Made for GPUs: on the CPU it transposes the backbone's max pooling, which then takes six times as long.
            config.delete_pass("transfer_layout_pass")
            if enable_mkldnn or precision != "fp32":
                _use_onednn(config, export.program)
            else:
                config.disable_mkldnn()
            if precision == "bf16":
                _check_bf16()
                config.enable_mkldnn_bfloat16()
            elif precision == "int8":
                if not export.quantised:
                    raise UserError(
                        f"--precision int8: {export.path} is no quantised export; make one with `bisenetv1 quantize`."
                    )
                config.enable_mkldnn_int8()
                for library in ("mkldnn", "onednn"):  # as Paddle 2.6 and Paddle 3 call it
                    # A residual block's sum, done by the convolution itself, is wrong in int8.
                    config.delete_pass(f"conv_elementwise_add_{library}_fuse_pass")
        try:
            self._predictor = inference.create_predictor(config)
        except Exception as error:
            raise UserError(f"Paddle Inference cannot load {export.program}: {error}") from error
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def run(self, images):
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives: int32 `[N, H, W]` for argmax."""
        images = np.ascontiguousarray(images, dtype="float32")
        self._input.reshape(images.shape)
        self._input.copy_from_cpu(images)
        self._predictor.run()
        # It leaves all of Paddle's mathematics on one thread: the next forward pass in dygraph takes twice as long.
        paddle.base.core.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]))
        return self._output.copy_to_cpu()


def _use_onednn(config, program):
    config.set_mkldnn_cache_capacity(10)  # of as many image sizes it remembers the compiled primitives
    config.enable_mkldnn()
    if program.endswith(".json"):
        # This pass puts every operator on oneDNN that has a name there. Its bilinear interpolation ignores
        # align_corners (Paddle 3.0 to 3.2: wrong masks) or raises (3.3). Convolutions get there by later passes.
        config.delete_pass("onednn_placement_pass")


def _check_bf16():
    if not paddle.base.core.supports_bfloat16():
        raise UserError("--precision bf16 needs a processor with AVX-512 (avx512f); this one has not: use fp32.")


def _check_gpu():
    if not paddle.is_compiled_with_cuda():
        raise UserError("--device gpu needs paddlepaddle-gpu; this Paddle is built for the CPU: give --device cpu.")
    if not paddle.device.cuda.device_count():
        raise UserError("--device gpu: Paddle finds no GPU on this machine: give --device cpu.")
