"""The paddle2onnx chain: trained weights to ONNX, ONNX Runtime on the images, and the verdict."""

import functools
from pathlib import Path

from bisenetv1_plugin.tipc.chain import Export, config_of, holds_masks
from bisenetv1_plugin.tipc.params import TipcError
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
    path = Path(path)
    if not path.is_file():
        raise TipcError(f"there is no TIPC file {path}.")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line][1:]
    if len(lines) < len(_LINES):
        raise TipcError(
            f"{path} has {len(lines) + 1} lines that are not blank; a paddle2onnx file has {len(_LINES) + 1}."
        )
    keys, values = ({name: line.split(":")[part] for name, line in zip(_LINES, lines)} for part in (0, 1))

    def option(name):
        return "" if values[name] in ("null", "") else f"{keys[name]}={values[name]}"

    folder = Path("test_tipc/output") / values["model_name"] / "paddle2onnx_infer"
    steps = Steps(values["model_name"], values["python"], folder, "results_paddle2onnx.log")
    exported = Path(values["save_dir"])
    export = Export("onnx", config_of(values["2onnx"]), Path(values["weights"]), exported, Path(values["images"]))
    if (exported / "model.onnx").is_file():
        (exported / "model.onnx").unlink()  # an earlier run's must not stand in
    converted = steps.run(
        values["2onnx"],
        [option("weights"), option("save_dir"), option("opset"), option("checker")],
        folder / "trans_model.log",
        done=(exported / "model.onnx").is_file,
    )
    if converted:
        export.results.append(folder / "onnxruntime_results")
        options = [option("config"), option("images"), f"--save_dir={export.results[0]}"]
        done = functools.partial(holds_masks, export.results[0])
        steps.run(values["inference"], options, folder / "infer_onnx.log", done=done)
    return steps, [export], folder
