"""The paddle2onnx chain: trained weights to ONNX, ONNX Runtime on the images, and the verdict."""

import functools
from pathlib import Path

from bisenetv1_plugin.tipc import places
from bisenetv1_plugin.tipc.chain import Export, Run, config_of, holds_masks
from bisenetv1_plugin.tipc.params import PADDLE2ONNX, ShortParams
from bisenetv1_plugin.tipc.steps import Steps

_LINES = ("model_name", "python", "2onnx", "weights", "model", "params", "save_dir", "opset", "checker")
_LINES += ("inference", "config", "images")


def run(path):
    """Run the chain of a `..._paddle2onnx_python_linux_cpu.txt`.

    Returns:
        tuple[Steps, list[Export], Path]: the steps, what they exported, and the folder of the logs.

    Raises:
        TipcError: the file cannot be used.
    """
    params = ShortParams(path, PADDLE2ONNX, _LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "paddle2onnx_infer"
    exported = Path(params["save_dir"])
    export = Export("onnx", config_of(params["2onnx"]), Path(params["weights"]), exported, Path(params["images"]))
    model = exported / "model.onnx"
    places.check_export(model, exported, params.where("save_dir"))
    reads = [path, export.config, export.weights, export.images]
    steps = Steps(params["model_name"], params["python"], folder, "results_paddle2onnx.log", reads)
    converted = steps.run(
        params["2onnx"],
        [params.option(name) for name in ("weights", "opset", "checker", "save_dir")],
        folder / "trans_model.log",
        done=places.is_new(model),
    )
    if converted:
        results = folder / "onnxruntime_results"
        export.runs.append(Run(results, "onnxruntime"))
        options = [params.option("config"), params.option("images"), f"--save_dir={results}"]
        done = functools.partial(holds_masks, results)
        steps.run(params["inference"], options, folder / "infer_onnx.log", done=done)
    return steps, [export], folder
