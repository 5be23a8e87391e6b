"""A ready configuration for a converted network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddleseg.cvlibs import Config

from bisenetv1_plugin.convert.conversion import Converted

_PARTS = (
    *("batch_size", "iters", "model", "train_dataset", "val_dataset", "test_config"),
    *("optimizer", "lr_scheduler", "loss"),
)


def configuration(converted: Converted, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a ready configuration of the same family for a converted network, and notes for the user.

    A configuration with the same number of classes is used unchanged. Otherwise the datasets of the family's first
    configuration are replaced by PaddleSeg's `type: Dataset`, and the user fills in its paths.

    Args:
        converted: a whole network, not only a backbone.
        folder: the folder of the ready configurations.

    Returns:
        The configuration, with its `_base_` files merged in, and the notes as sentences.
    """
    name, dic = _closest(converted, folder)
    notes = [f"The configuration follows {name}."]
    if dic["model"]["num_classes"] != converted.num_classes:
        for mode in ("train", "val"):
            transforms = dic[f"{mode}_dataset"]["transforms"]
            dic[f"{mode}_dataset"] = _dataset(mode, converted.num_classes, transforms)
        notes.append("It has other classes: mean and std may not be those of the checkpoint's training.")
    if converted.variant == "torchseg_x39":
        notes.append("X39 and X39.speed have the same tensors. To train X39.speed, set variant: torchseg_speed.")
    dic["model"].update(num_classes=converted.num_classes, backbone={"type": converted.backbone})
    return {part: dic[part] for part in _PARTS if part in dic}, notes


def _closest(converted: Converted, folder: Path) -> tuple[str, dict[str, Any]]:
    """Find the best configuration of the variant: same backbone, then same classes, then published image size."""
    candidates = []
    for path in sorted(folder.glob("*.yml")):
        dic = Config(str(path)).dic
        model = dic["model"]
        if model.get("variant", "torchseg") == converted.variant:
            same_backbone = model["backbone"]["type"] == converted.backbone
            same_classes = model["num_classes"] == converted.num_classes
            published = "1024" in path.stem or "512" in path.stem
            candidates.append((not same_backbone, not same_classes, not published, path.stem, dic))
    *_, name, dic = min(candidates, key=lambda candidate: candidate[:4])
    return name, dic


def _dataset(mode: str, num_classes: int | None, transforms: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "Dataset",
        "dataset_root": "data/custom",
        f"{mode}_path": f"data/custom/{mode}.txt",
        "num_classes": num_classes,
        "mode": mode,
        "transforms": transforms,
    }
