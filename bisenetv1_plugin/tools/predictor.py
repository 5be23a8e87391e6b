"""An exported model in Paddle Inference."""

import os

import numpy as np
import paddle.inference as paddle_inference
from paddleseg.deploy.infer import DeployConfig

from bisenetv1_plugin.tools.errors import UserError


class Predictor:
    """Runs what `export` wrote.

    Args:
        deploy_yaml (str): the `deploy.yaml` of the exported folder.
        device (str): 'cpu' or 'gpu'.
        cpu_threads (int): threads on the CPU.
        enable_mkldnn (bool): use oneDNN on the CPU.

    Raises:
        UserError: a file of the exported model is missing or cannot be used.
    """

    def __init__(self, deploy_yaml, device="cpu", cpu_threads=1, enable_mkldnn=False):
        if not os.path.isfile(deploy_yaml):
            raise UserError(
                f"--config names {deploy_yaml}, and there is no such file: name the deploy.yaml of an export."
            )
        deploy = DeployConfig(deploy_yaml)
        for path in (deploy.model, deploy.params):
            if not os.path.isfile(path):
                raise UserError(f"{deploy_yaml} names {path}, and there is no such file: export again.")
        self.transforms = deploy.transforms
        config = paddle_inference.Config(deploy.model, deploy.params)
        config.disable_glog_info()
        config.enable_memory_optim()
        if deploy.model.endswith(".json"):  # a program of Paddle 3
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        if device == "gpu":
            config.enable_use_gpu(100, 0)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(cpu_threads)
            if enable_mkldnn:
                config.set_mkldnn_cache_capacity(10)
                config.enable_mkldnn()
            else:
                config.disable_mkldnn()
        try:
            self._predictor = paddle_inference.create_predictor(config)
        except Exception as error:
            raise UserError(f"Paddle Inference cannot load {deploy.model}: {error}") from error
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def run(self, images):
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives: int32 `[N, H, W]` for argmax."""
        images = np.ascontiguousarray(images, dtype="float32")
        self._input.reshape(images.shape)
        self._input.copy_from_cpu(images)
        self._predictor.run()
        return self._output.copy_to_cpu()
