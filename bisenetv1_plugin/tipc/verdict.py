"""The verdict on a TIPC chain: whether deployed models give the same results as the trained network."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from bisenetv1_plugin import files
from bisenetv1_plugin.datasets.classes import named_classes
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.evaluation import parity, verify
from bisenetv1_plugin.evaluation.sheet import draw_sheet
from bisenetv1_plugin.export.write import write_export
from bisenetv1_plugin.inference.exported_model import load_export
from bisenetv1_plugin.inference.runtimes import RUNTIMES, Runtime
from bisenetv1_plugin.machine import cores
from bisenetv1_plugin.tipc.chain import Deployment, Run
from bisenetv1_plugin.tipc.inputs import read_list
from bisenetv1_plugin.tipc.params import TipcError
from bisenetv1_plugin.training import builder


class Result(NamedTuple):
    """One inference run of the chain, compared with dygraph on the images of the list.

    Attributes:
        verdict: the verdict; it has the name of the run in the log folder.
        classes: names of the classes.
        images: number of images.
        dygraph: scores of dygraph's masks.
    """

    verdict: parity.Verdict
    classes: list[str]
    images: int
    dygraph: parity.Scores

    def figures(self) -> dict[str, Any]:
        """Return the entry in verdict.json."""
        expected = {f"predict_{key}": value for key, value in self.dygraph.figures().items()}
        logits, reason = self.verdict.comparison.max_difference, self.verdict.reason or ""
        found = {**self.verdict.figures(), "logits": logits, "reason": reason}
        return {**found, **expected, "classes": self.classes, "images": self.images}


def judge(deployment: Deployment, picture: Path) -> list[Result]:
    """Compare every inference run of an export with dygraph.

    Args:
        deployment: the export and its inference runs.
        picture: path for a picture of the masks side by side.

    Returns:
        One result for each run.

    Raises:
        TipcError: the list of images cannot be read or has no labels.
    """
    pairs = read_list(deployment.images)
    cfg, build, model = builder.open_network(deployment.config, deployment.weights, "cpu")
    dataset = build.val_dataset
    dataset.file_list = [[str(image), str(label)] for image, label in pairs]
    classes = named_classes(cfg, dataset.num_classes)
    dygraph = verify.Reference(model, dataset, "argmax", {})
    with tempfile.TemporaryDirectory() as folder:
        logits = _logits(cfg, deployment, folder)
        runs = [_RunCandidate(run, deployment, dataset, logits.get(_runtime(run))) for run in deployment.runs]
        shown = verify.compare(dygraph, dataset, runs, tqdm)
    if shown:
        titles = ["predict", *(f"infer {number + 1}" for number in range(len(runs)))]
        draw_sheet(str(picture), shown, titles, classes.names, classes.colors, pairs)
    scores, names = dygraph.as_infer.scores(), list(classes.names)
    return [Result(run.judge(dygraph.as_infer, len(pairs)), names, len(pairs), scores) for run in runs]


def report(results: Sequence[Result], failed: Sequence[str], path: Path) -> bool:
    """Print the results and write them as JSON; return whether everything passed.

    Args:
        results: results of all exports.
        failed: commands of the chain that failed.
        path: the JSON file.
    """
    passed = bool(results) and not failed and all(result.verdict.verdict == parity.PARITY for result in results)
    for verdict, classes, _, dygraph in results:
        print(f"\n{verdict.name}\n{parity.table(classes, dygraph, verdict.scores)}")
        print("; ".join(_found(verdict)) + f": {verdict.verdict}")
        if verdict.reason:
            print(f"  {verdict.reason}")
    for command in failed:
        print(f"failed: {command}")
    if not results:
        print(f"nothing was inferred: {parity.NOT_SHOWN}")
    print(f"TIPC verdict: {'pass' if passed else 'FAIL'}", flush=True)
    content = {"passed": passed, "failed": failed, "results": [result.figures() for result in results]}
    files.write(path, json.dumps(content, indent=1).encode() + b"\n")
    return passed


def _found(verdict: parity.Verdict) -> Iterator[str]:
    if verdict.scores:
        yield f"{verdict.comparison.agreement:.4%} of the pixels are equal"
    if verdict.comparison.max_difference is not None:
        yield f"logits differ by at most {verdict.comparison.max_difference:.1e}"


class _Logits:
    """The logits of a runtime. Those of the last image are cached, because several runs need them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._index, self._found = -1, np.empty(0)

    def of(self, index: int, image: np.ndarray) -> np.ndarray:
        if index != self._index:
            self._index, self._found = index, self._runtime.run(image)[0]
        return self._found


class _RunCandidate(parity.Candidate):
    """The masks of an inference run, and the logits of its runtime."""

    def __init__(self, run: Run, deployment: Deployment, dataset: Any, logits: _Logits | None) -> None:
        super().__init__(
            *(run.results.name, dataset.num_classes, dataset.ignore_index, run.precision),
            needs_logits=_runtime(run) is not None,
        )
        self._folder, self._config, self._logits = run.results, deployment.config, logits
        self._files, self._num_classes = dataset.file_list, dataset.num_classes

    def answer(self, index: int, image: np.ndarray, trans_info: list[Any]) -> parity.Answer | None:
        if trans_info:
            raise TipcError(f"{self._config} resizes or pads images for validation, so masks cannot be compared.")
        name = Path(self._files[index][0])
        path = self._folder / f"{name.stem}.png"
        mask = np.asarray(Image.open(path)) if path.is_file() else None
        if mask is None or mask.shape != image.shape[2:] or mask.max() >= self._num_classes:
            self.missing.append(name.name)
            return None
        return parity.Answer(mask, self._logits.of(index, image) if self._logits else None)


def _runtime(run: Run) -> tuple[Any, ...] | None:
    """Return a key that runs with the same logits share; None if logits cannot be compared with dygraph's."""
    return None if run.options is None or run.precision != "fp32" else (run.backend, *sorted(run.options.items()))


def _logits(cfg: Any, deployment: Deployment, folder: str) -> dict[tuple[Any, ...] | None, _Logits]:
    """Return the logits of each runtime, from an export without argmax."""
    runs = {_runtime(run): run for run in deployment.runs if _runtime(run)}
    if not runs:
        return {}
    model = builder.open_network(cfg, deployment.weights).model
    to = "paddle" if all(run.backend == "paddle" for run in runs.values()) else "onnx"
    write_export(model, folder, cfg.val_dataset_cfg["transforms"], output_op="none", to=to)
    export = load_export(folder)
    found: dict[tuple[Any, ...] | None, _Logits] = {}
    for key, run in runs.items():
        try:
            found[key] = _Logits(RUNTIMES[run.backend](export, cpu_threads=cores(), **(run.options or {})))
        except InputError as error:  # the run itself has probably failed too
            print(f"{run.results.name}: no logits: {error}", file=sys.stderr)
    return found
