"""Runs PaddleSeg's unmodified tools on real images, and checks their results, not only their exit codes.

Run in an environment with Paddle, PaddleSeg and this package:

    python tests/upstream/matrix.py run --paddleseg FOLDER --camvid FOLDER --stack NAME --results FILE
    python tests/upstream/matrix.py table --results FILE

`run` runs the tools of an unpacked PaddleSeg in every step, once for each column, and adds the cells to a JSON file.
To use the checkout's package too, put it on PYTHONPATH. `table` writes the table of that file into docs/stacks.md.
`noxfile.py` in the same folder does both for every stack.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TRAIN_IMAGES, VAL_IMAGES, ITERS = 8, 3, 4
SIZE, CLASSES = (360, 480), 11  # of the CamVid images
MIN_AGREEMENT = 0.9999

# Column: environment variables, model and loss.
OURS = {"type": "BiSeNetV1", "variant": "torchseg", "backbone": {"type": "ResNet18_v1b"}}
DILATED = {"type": "ResNet18_vd", "output_stride": 8}
COLUMNS = {
    "plugin": ({}, OURS, "BiSeNetV1Loss"),
    "plugin, variant paddleseg": ({}, {**OURS, "variant": "paddleseg", "backbone": DILATED}, "BiSeNetV1Loss"),
    "corrections off": ({"BISENETV1_PLUGIN_COMPAT": "0"}, OURS, "BiSeNetV1Loss"),
    "upstream": ({"BISENETV1_PLUGIN": "0"}, {"type": "BiseNetV1", "backbone": DILATED}, "OhemCrossEntropyLoss"),
}
STEPS = ("train", "train --do_eval", "val", "predict", "export", "infer", "infer --enable_mkldnn", "train, 2 processes")

# Known causes: a letter and a pattern in the log or the result. docs/stacks.md explains the letters.
CAUSES = {
    "n": r"only 0-dimensional arrays can be converted",
    "a": r"IndexError: .*0-D|too many indices|invalid index to scalar|0-dim",
    "b": r"Type promotion only support",
    "c": r"UnboundLocalError: .*mean_iou",
    "d": r"model\.pdmodel",
    "e": r"axis is expected to be in range of \[0, 0\)",
    "g": r"memory_optimize_pass",
    "h": r"ConvertPirAttribute2RuntimeAttribute",
    "z": r"inflateReset2|zlib\.error",
}


class Failed(Exception):
    """A step failed or had a wrong result."""


class Project:
    """A working folder for the tools, with a few CamVid images and a configuration."""

    def __init__(self, folder, column, checkout, camvid):
        environment, model, loss = COLUMNS[column]
        self.folder, self.checkout = Path(folder), Path(checkout)
        self.miou = None  # of the evaluation in training
        self.environment = {**os.environ, **environment}
        for name, count in (("train", TRAIN_IMAGES), ("val", VAL_IMAGES)):
            lines = (camvid / f"{name}.txt").read_text().splitlines()
            (self.folder / f"{name}.txt").write_text("\n".join(lines[:: len(lines) // count][:count]) + "\n")
        images = [str(camvid / line.split()[0]) for line in (self.folder / "val.txt").read_text().splitlines()]
        (self.folder / "images.txt").write_text("\n".join(images) + "\n")
        crop = [{"type": "RandomPaddingCrop", "crop_size": [160, 120]}, {"type": "Normalize"}]
        config = {
            "_base_": str(CONFIGS / "bisenetv1_camvid_480x360.yml"),
            "batch_size": 2,
            "iters": ITERS,
            "model": model,
            "lr_scheduler": {"learning_rate": 0.005},  # a higher rate may end in a single class after so few iterations
            "loss": {"types": [{"type": loss, "ignore_index": 255}], "coef": [1, 1, 1]},
            "train_dataset": {"dataset_root": str(camvid), "train_path": "train.txt", "transforms": crop},
            "val_dataset": {"dataset_root": str(camvid), "val_path": "val.txt"},
        }
        (self.folder / "config.yml").write_text(yaml.safe_dump(config))

    def tool(self, *command):
        """Run a command in this folder and return its output. An exit code other than 0 is a failure."""
        command = [sys.executable, *map(str, command)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900,
        )
        if done.returncode != 0:
            raise Failed(done.stdout[-6000:])
        return done.stdout

    def train(self, save_dir, *arguments, launcher=()):
        """Train, check that the weights exist and are finite, and return the output."""
        output = self.tool(
            *launcher,
            *(self.checkout / "tools/train.py", "--config", "config.yml", "--device", "cpu", "--save_dir", save_dir),
            *("--save_interval", ITERS, "--log_iters", 1, "--seed", 1, *arguments),
        )
        import paddle

        state = paddle.load(str(self.folder / save_dir / f"iter_{ITERS}" / "model.pdparams"))
        if not (state and all(np.isfinite(value.numpy()).all() for value in state.values())):
            raise Failed("the weights are not finite")
        return output

    @property
    def weights(self):
        """The weights of the first training that saved any."""
        for run in ("evaluated", "plain"):
            path = self.folder / run / f"iter_{ITERS}" / "model.pdparams"
            if path.is_file():
                return path
        raise Failed("not reached: no weights")

    def masks(self, folder):
        """Read the masks in a folder, sorted by name, and check that each is plausible."""
        masks = [np.asarray(Image.open(path)) for path in sorted((self.folder / folder).rglob("*.png"))]
        if len(masks) != VAL_IMAGES or any(mask.shape != SIZE or mask.max() >= CLASSES for mask in masks):
            raise Failed(f"{folder} has {len(masks)} masks of {[mask.shape for mask in masks]}")
        return masks


def train(project):
    check_losses(project.train("plain"))


def train_with_evaluation(project):
    output = project.train("evaluated", "--do_eval")
    check_losses(output)
    if not (len(mious(output)) == 1 and 0 < mious(output)[0] < 1):
        raise Failed(f"mIoU {mious(output)}")
    project.miou = mious(output)[0]


def val(project):
    if project.miou is None:
        raise Failed("not reached: no evaluation in training")
    output = project.tool(
        *(project.checkout / "tools/val.py", "--config", "config.yml", "--model_path", project.weights),
        *("--device", "cpu"),
    )
    if len(mious(output)) != 1 or mious(output)[0] != project.miou:
        raise Failed(f"mIoU {mious(output)}; the evaluation in training gave {project.miou}")


def predict(project):
    project.tool(
        *(project.checkout / "tools/predict.py", "--config", "config.yml", "--model_path", project.weights),
        *("--image_path", "images.txt", "--save_dir", "predicted", "--device", "cpu"),
    )
    classes = {value for mask in project.masks("predicted/pseudo_color_prediction") for value in np.unique(mask)}
    if len(classes) < 3:
        raise Failed(f"only the classes {classes} are predicted: equal masks would prove nothing")


def export(project):
    """Check that Paddle Inference without the plugin gives the masks of predict with the exported folder."""
    project.tool(
        *(project.checkout / "tools/export.py", "--config", "config.yml", "--model_path", project.weights),
        *("--save_dir", "exported"),
    )
    deploy = yaml.safe_load((project.folder / "exported/deploy.yaml").read_text())["Deploy"]
    for name in (deploy["model"], deploy["params"]):
        if not (project.folder / "exported" / name).is_file():
            raise Failed(f"deploy.yaml names {name}, which is not there")
    here = Path(__file__).with_name("bare_inference.py")
    environment, project.environment = project.environment, {**os.environ, "BISENETV1_PLUGIN": "0"}
    try:
        project.tool(here, "exported", "images.txt", "bare")
    finally:
        project.environment = environment
    check_agreement(project, "bare")


def infer(project, *arguments):
    if not (project.folder / "exported/deploy.yaml").is_file():
        raise Failed("not reached: no export")
    folder = "inferred" + "".join(arguments).strip("-")
    output = project.tool(
        *(project.checkout / "deploy/python/infer.py", "--config", "exported/deploy.yaml", "--device", "cpu"),
        *("--image_path", "images.txt", "--save_dir", folder, "--cpu_threads", 1, *arguments),
    )
    if not (project.folder / folder).is_dir():
        raise Failed(output[-6000:])  # infer.py exits with 0 if it cannot create its predictor
    check_agreement(project, folder)


def two_processes(project):
    launcher = ("-m", "paddle.distributed.launch", "--nproc_per_node", 2, "--backend", "gloo", "--log_dir", "logs")
    failure = None
    try:
        project.train("two", "--do_eval", launcher=launcher)
    except Failed as error:
        failure = error
    logs = [path.read_text(errors="replace") for path in sorted((project.folder / "logs").glob("workerlog.*"))]
    if failure or len(logs) != 2:
        raise Failed("\n".join(log[-6000:] for log in logs) or str(failure))
    check_losses(logs[0])


def check_losses(output):
    losses = [float(loss) for loss in re.findall(r"\[TRAIN\].*?loss: ([\d.naif]+)", output)]
    if len(losses) != ITERS or not np.isfinite(losses).all():
        raise Failed(f"losses {losses}")


def mious(output):
    return [float(value) for value in re.findall(r"\[EVAL\] #Images: \d+ mIoU: ([\d.]+)", output)]


def check_agreement(project, folder):
    pairs = list(zip(project.masks("predicted/pseudo_color_prediction"), project.masks(folder)))
    agreement = np.mean([np.mean(a == b) for a, b in pairs])
    if agreement < MIN_AGREEMENT:
        raise Failed(f"wrong masks: {agreement:.2%} of the pixels as predicted")


RUN = dict(
    zip(
        STEPS,
        (
            *(train, train_with_evaluation, val, predict, export, infer),
            lambda project: infer(project, "--enable_mkldnn", "True"),
            two_processes,
        ),
    )
)


def run_column(column, checkout, camvid, folder):
    """Run all steps. Returns a dict of step to 'ok', or to the letter of the cause and the last line or finding."""
    project = Project(folder, column, checkout, camvid)
    cells = {}
    for step in STEPS:
        try:
            RUN[step](project)
            cells[step] = "ok"
        except (Failed, FileNotFoundError, subprocess.TimeoutExpired) as error:
            cells[step] = reason(str(error))
        print(f"  {column:<28}{step:<24}{cells[step]}", flush=True)
    return cells


def reason(text):
    """`x: sentence` for a known cause x, else the sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for letter, pattern in CAUSES.items():
        found = [line for line in lines if re.search(pattern, line)]
        if found:
            return f"{letter}: {found[-1][:160]}"
    return lines[-1][:160] if lines else "no output"


def table(results):
    """A table in Markdown, a row for each stack, with the failing steps and their causes."""
    columns = [name for name in COLUMNS if any(name in stack for stack in results.values())]
    lines = ["| stack | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    totals = dict.fromkeys(columns, (0, 0))
    for stack, cells in sorted(results.items()):
        shown = []
        for column in columns:
            steps = cells.get(column, {})
            good = sum(cell == "ok" for cell in steps.values())
            totals[column] = (totals[column][0] + good, totals[column][1] + len(steps))
            bad = [f"{step} ({letter(cell)})" for step, cell in steps.items() if cell != "ok" and letter(cell) != "-"]
            shown.append(f"{good} of {len(steps)}" + (": fails " + ", ".join(bad) if bad else ""))
        lines.append(f"| {stack} | " + " | ".join(shown) + " |")
    lines.append("| **all** | " + " | ".join(f"**{good} of {total}**" for good, total in totals.values()) + " |")
    return "\n".join(lines)


def write_table(text):
    """Write the table between its marks in docs/stacks.md, in both languages."""
    for name in ("docs/stacks.md", "docs/zh/stacks.md"):
        path = CONFIGS.parent / name
        before, mark, rest = path.read_text(encoding="utf-8").partition("<!-- matrix -->\n")
        _, end, after = rest.partition("<!-- end of matrix -->")
        if not (mark and end):
            sys.exit(f"{path} has no place for the table: <!-- matrix --> and <!-- end of matrix -->.")
        path.write_text(f"{before}{mark}{text}\n{end}{after}", encoding="utf-8")


def letter(cell):
    """The letter of a known cause, `w` for wrong masks, `-` for a step that was not reached, else `?`."""
    if cell.startswith("wrong masks"):
        return "w"
    if cell.startswith("not reached"):
        return "-"
    return cell[0] if cell[1:2] == ":" else "?"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("--paddleseg", type=Path, required=True, help="an unpacked PaddleSeg: tools/, deploy/python/")
    runner.add_argument(
        "--camvid", type=Path, required=True, help="CamVid as `bisenetv1 data prepare camvid` writes it"
    )
    runner.add_argument("--stack", required=True, help="what to call this environment")
    runner.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=list(COLUMNS))
    for command in (runner, commands.add_parser("table")):
        command.add_argument("--results", type=Path, required=True, help="the JSON file of all cells")
    args = parser.parse_args()
    results = json.loads(args.results.read_text()) if args.results.is_file() else {}
    if args.command == "table":
        write_table(table(results))
        return
    print(args.stack, flush=True)
    for column in args.columns:
        with tempfile.TemporaryDirectory() as folder:
            cells = run_column(column, args.paddleseg.resolve(), args.camvid.resolve(), folder)
        results = json.loads(args.results.read_text()) if args.results.is_file() else {}
        results.setdefault(args.stack, {})[column] = cells
        args.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
