"""The PTQ chain: trained weights to 8 bits without training, Paddle Inference on the images, and the verdict."""

import functools
from pathlib import Path

from bisenetv1_plugin.tipc import places
from bisenetv1_plugin.tipc.chain import Export, Run, config_of, holds_masks
from bisenetv1_plugin.tipc.params import PTQ, ShortParams, check_count, check_name
from bisenetv1_plugin.tipc.steps import Steps

_LINES = ("model_name", "python", "device", "weights", "save_dir", "config", "batch_nums", "batch_size")
_LINES += ("", "trainer", "quantise", "", "infer_params", "inference", "infer_device", "infer_batch_size")
_LINES += ("deploy", "images", "benchmark")


def run(path):
    """Run the chain of a `train_ptq_infer_python.txt`.

    Returns:
        tuple[Steps, list[Export], Path]: the steps, what they exported, and the folder of the logs.

    Raises:
        TipcError: the file cannot be used.
    """
    params = ShortParams(path, PTQ, _LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "whole_infer"
    deploy, exported = Path(params["deploy"]), Path(params["save_dir"])
    devices, batch_sizes = params["infer_device"].split("|"), params["infer_batch_size"].split("|")
    for device in devices:
        check_name(device, params.where("infer_device"))
    for batch_size in batch_sizes:
        check_count(batch_size, params.where("infer_batch_size"))
    places.check_export(deploy, exported, params.where("deploy"))
    options = [params.option(name) for name in ("device", "weights", "batch_nums", "batch_size", "config", "save_dir")]
    config = config_of(f"{params['quantise']} {params.option('config')}")
    export = Export("int8", config, Path(params["weights"]), deploy.parent, Path(params["images"]))
    reads = [path, export.config, export.weights, export.images]
    steps = Steps(params["model_name"], params["python"], folder, "results_python.log", reads)
    if steps.run(params["quantise"], options, folder / "export.log", done=places.is_new(deploy)):
        for device in devices:
            for batch_size in batch_sizes:
                name = f"python_infer_{device}_batchsize_{batch_size}"
                results = folder / f"{name}_results"
                options = [params.option("infer_device", device), params.option("infer_batch_size", batch_size)]
                options += [params.option(name) for name in ("deploy", "images", "benchmark")]
                options.append(f"--save_dir={results}")
                export.runs.append(Run(results, precision="int8"))
                done = functools.partial(holds_masks, results)
                steps.run(params["inference"], options, folder / f"{name}.log", done=done)
    return steps, [export], folder
