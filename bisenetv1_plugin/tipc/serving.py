"""The chain of a serving file: an export, and what `bisenetv1 serve` answers with each runtime."""

from __future__ import annotations

import functools
from pathlib import Path

from bisenetv1_plugin.tipc import own_folders
from bisenetv1_plugin.tipc.chain import Deployment, Run, config_of, holds_masks
from bisenetv1_plugin.tipc.inputs import listed
from bisenetv1_plugin.tipc.params import SERVING, ShortParams, check_name
from bisenetv1_plugin.tipc.steps import Steps

_LINES = ("model_name", "python", "export", "weights", "save_dir", "client", "server", "backend", "images")


def run_serving(path: str | Path) -> tuple[Steps, list[Deployment], Path]:
    """Run the chain of a `..._serving_python_linux_cpu.txt`.

    Returns:
        tuple[Steps, list[Deployment], Path]: the steps, what they exported, and the folder of the logs.

    Raises:
        TipcError: the file cannot be used.
    """
    params = ShortParams(path, SERVING, _LINES)
    folder = Path("test_tipc/output") / params["model_name"] / "serving_infer"
    exported, images = Path(params["save_dir"]), Path(params["images"])
    backends = params["backend"].split("|")
    for backend in backends:
        check_name(backend, params.where("backend"))
    deploy = exported / "deploy.yaml"
    own_folders.check_export(deploy, exported, params.where("save_dir"))
    listed(images)  # refused here rather than after the export
    deployment = Deployment("serving", config_of(params["export"]), Path(params["weights"]), exported, images)
    reads: list[str | Path] = [params.path, deployment.config, deployment.weights, images]
    steps = Steps(params["model_name"], params["python"], folder, "results_serving.log", reads)
    options = [params.option(name) for name in ("weights", "save_dir")]
    if steps.run(params["export"], options, folder / "export.log", done=own_folders.is_new(deploy)):
        for backend in backends:
            run = Run(folder / f"serving_cpu_backend_{backend}_results", backend)
            deployment.runs.append(run)
            server = f"{params['server']} {exported} {params.option('backend', backend)}"
            options = [f"--server={server}", params.option("images"), f"--save_dir={run.results}"]
            log = folder / f"serving_cpu_backend_{backend}.log"
            steps.run(params["client"], options, log, done=functools.partial(holds_masks, run.results))
    return steps, [deployment], folder
