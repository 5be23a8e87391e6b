"""An exported model on images or a video: read, run, write."""

from __future__ import annotations

from typing import Any, Callable, Iterator, NamedTuple

import numpy as np

from bisenetv1_plugin.deploy.exported import Export
from bisenetv1_plugin.deploy.images import Source
from bisenetv1_plugin.deploy.masks import Writer, restore
from bisenetv1_plugin.deploy.runtimes import Runtime


def infer(
    export: Export,
    runtime: Runtime,
    source: Source,
    writer: Writer,
    batch_size: int = 1,
    step: Callable[[], object] = lambda: None,
) -> None:
    """Write the mask of every picture; those that cannot be read or do not fit are in `source.faults` then.

    Args:
        export (Export): what `runtime` runs.
        runtime (Runtime): one of `runtimes.RUNTIMES`; without argmax in the export, it is taken here.
        source (Source): the pictures.
        writer (Writer): where the masks go.
        batch_size (int): pictures of the same size at a time.
        step (callable): called after every batch; `source.done` says how far it is.
    """
    for batch in batches(source, export, batch_size):
        output = runtime.run(np.stack([picture.sample["img"] for picture in batch]))
        masks = output.argmax(axis=1) if output.ndim == 4 else output
        for picture, mask in zip(batch, masks):
            writer.write(picture.name, restore(mask.astype("uint8"), picture.sample["trans_info"]), picture.pixels)
        step()


class Picture(NamedTuple):
    """One picture: its name, its pixels (uint8 BGR `[H, W, 3]`), and what the transforms made of it."""

    name: str
    pixels: np.ndarray
    sample: dict[str, Any]


def batches(source: Source, export: Export, batch_size: int) -> Iterator[list[Picture]]:
    """Up to `batch_size` pictures that have the same size after the transforms and fit the export, at a time."""
    batch: list[Picture] = []
    for name, pixels in source:
        picture = Picture(name, pixels, export.transforms({"img": pixels.astype("float32")}))
        shape = picture.sample["img"].shape
        misfit = export.misfit((batch_size, *shape))
        if misfit:
            source.faults.append(f"{name} was left out: {misfit}.")
            continue
        if batch and (len(batch) == batch_size or batch[0].sample["img"].shape != shape):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch
