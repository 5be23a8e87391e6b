"""Turns a folder of images and labels into lists, labels of class numbers, class names and a configuration."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

import numpy as np

from bisenetv1_plugin import files, image_files
from bisenetv1_plugin.datasets.check import THREADS, Problem, Report, orientation
from bisenetv1_plugin.datasets.check.copies import leaks
from bisenetv1_plugin.datasets.classes import CLASS_NAMES, class_colors
from bisenetv1_plugin.datasets.own import census, coco, encoding, labelme, layouts, recipe, split, tables, walk
from bisenetv1_plugin.datasets.own.census import PairInfo
from bisenetv1_plugin.datasets.own.lists import Pair, Pairs, read_list
from bisenetv1_plugin.datasets.own.naming import UniqueNames
from bisenetv1_plugin.datasets.own.options import Options
from bisenetv1_plugin.datasets.own.path_words import known_folders
from bisenetv1_plugin.datasets.prepare import prepare_cityscapes
from bisenetv1_plugin.datasets.prepare.dataset_files import all_or_nothing, write_lists, write_png
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.progress import Progress, silent

_SHOWN = 3
_NAMING = "Name the files images/NAME.jpg and labels/NAME.png, or list them in train.txt, an `image label` per line."
_DEFAULTS = Options()


@dataclass
class Summary:
    """The result of `configure`.

    Attributes:
        config: the configuration file.
        folder: with `train.txt`, `val.txt`, `classes.txt`, perhaps `colors.txt`, and `labels/` if any were converted.
        kind: name of the layout.
        report: pixels by class, images and names, see `check.Report`.
        colors: RGB of the classes; empty if the data have none.
        recipe: the training settings.
        converted: number of converted labels.
        notes: sentences about decisions, omissions and open questions.
        pairs: (image, label) by `train` and `val`, as in the lists.
        examples: a few of these pairs that show as many classes as possible.
    """

    config: Path
    folder: Path
    kind: str
    report: Report
    colors: list[tables.RGB]
    recipe: recipe.Recipe
    converted: int = 0
    notes: list[str] = field(default_factory=list)
    pairs: dict[str, list[tuple[Path, Path]]] = field(default_factory=dict)
    examples: list[tuple[Path, Path]] = field(default_factory=list)


@dataclass
class _Source:
    """A layout, and what is known of its classes before its labels are read."""

    layout: layouts.Layout
    names: Sequence[str] | None = None
    colors: Sequence[tables.RGB] = ()


def configure(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    options: Options = _DEFAULTS,
    progress: Progress = silent,
) -> Summary:
    """Reads a folder of images and labels, and writes what PaddleSeg needs to train on it.

    Every image and label is decoded once. Labels are converted unless they are 8-bit files of class numbers. The source
    is never changed. The new folder is written completely or not at all, and the configuration after it.

    Args:
        source: the folder, in a layout of `layouts.find`, or of COCO, labelme or Cityscapes.
        config: the YAML file to write; it must not exist.
        folder: the folder to write; it must be empty or not exist. Default: `NAME_data` beside the configuration.
        options: the user's options.
        progress: see `progress.Progress`.

    Raises:
        InputError: the data or an argument cannot be used; the message names file, value and cure.
    """
    source, config = Path(source), Path(config)
    folder = Path(folder) if folder else config.with_name(f"{config.stem}_data")
    _check_arguments(source, config, folder, options)
    found = walk.files_under(source)
    folder = folder.resolve()
    try:
        with all_or_nothing(folder) as work:
            summary, content = _build(source.resolve(), found, config, folder, work, options, progress)
    except FileExistsError as error:
        raise InputError(str(error)) from error
    files.write(config, content.encode("utf-8"))
    return summary


def _check_arguments(source: Path, config: Path, folder: Path, options: Options) -> None:
    for path in (source, config, folder):
        fault = image_files.text_fault(os.path.abspath(path))  # the lists contain absolute paths
        if fault:
            raise InputError(fault)
    if config.suffix not in (".yml", ".yaml"):
        raise InputError(f"{config} must end in .yml or .yaml: PaddleSeg reads no other configuration.")
    if config.exists():
        raise InputError(f"{config} exists: name another file, or remove it.")
    if os.path.abspath(config) == os.path.abspath(folder):
        raise InputError(f"{config} cannot be both the configuration and the folder: name another file.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty: name another configuration, or remove it.")
    if options.max_size is not None and options.max_size != 0 and options.max_size < 32:
        raise InputError(f"--max_size is {options.max_size}: give 32 pixels or more, or 0 for no limit.")


def _build(
    source: Path, found: list[Path], config: Path, folder: Path, work: Path, options: Options, progress: Progress
) -> tuple[Summary, str]:
    """Writes everything into `work`, which later becomes `folder`; returns the Summary and the configuration's text."""
    start = _source(source, found, work, options, progress)
    layout, notes = start.layout, list(start.layout.notes)
    pairs = [pair._replace(split=name) for name, of_split in layout.pairs.items() for pair in of_split]
    if not pairs:
        raise InputError(
            f"{source} has no images with labels: no train.txt and val.txt, and no matching images/ and labels/. "
            f"{_NAMING} {known_folders()}"
        )
    inspection = census.inspect_pairs(pairs, progress)
    notes += _broken_notes(inspection, options)
    infos = inspection.usable
    if len(infos) < 2:
        usable = "one usable image with a label" if infos else "no usable image with a label"
        raise InputError(f"{source} has {usable}, but training and validation need one each. Add more.")
    own_table = tables.read(Path(options.colors)) if options.colors else tables.in_folder(source, found)
    names = start.names or tables.names_in_folder(source, found)
    meaning = encoding.decide(infos, options, own_table, names, drawn=start.names is not None)
    notes += meaning.notes
    colors = list(start.colors) if len(start.colors) == len(meaning.names) else meaning.colors
    notes += census.notes_on_images(infos)

    counts = np.stack([meaning.classes(info.values) for info in infos])
    classes = counts[:, : len(meaning.names)]
    splits, split_notes = split.choose(infos, classes > 0)
    train, val = (classes[splits[name]].sum(axis=0) for name in ("train", "val"))
    notes += [*split_notes, *split.coverage(train, val, meaning.names)]

    sizes = [info.size for info in infos]
    weights = None
    if options.class_weights:
        weights = recipe.median_frequency(classes[splits["train"]], classes[splits["train"]] > 0)
    chosen = recipe.choose(sizes, len(splits["train"]), options.max_size, weights)
    if options.max_size is None:
        notes += recipe.notes_on_size(chosen, sizes)
    if not options.class_weights:
        notes += recipe.notes_on_weights(train, meaning.names)

    labels = _convert(infos, meaning, source, folder, work, progress)
    report = Report(str(config), classes=meaning.names)
    summary = Summary(config, folder, layout.kind, report, colors, chosen, notes=notes)
    summary.converted = sum(label != info.pair.label for label, info in zip(labels, infos))
    final = [(_final_path(info.pair.image, work, folder), label) for info, label in zip(infos, labels)]
    summary.examples = [final[index] for index in split.examples(classes > 0)]
    for name, indices in splits.items():
        summary.pairs[name] = [final[index] for index in indices]
        report.counts[name] = classes[indices].sum(axis=0)
        report.ignored[name] = int(counts[indices, 255].sum())
        report.images[name] = len(indices)
    same = leaks(*([str(infos[index].pair.image) for index in splits[name]] for name in ("train", "val")))
    if same:
        raise InputError(same[0].message)
    tab = _write_lists(work, folder, summary.pairs, meaning.names, colors)
    content = recipe.text(
        chosen, folder.as_posix(), len(meaning.names), len(splits["train"]), tab, f"your own data ({layout.kind})"
    )
    return summary, content


def _source(source: Path, found: list[Path], work: Path, options: Options, progress: Progress) -> _Source:
    """Finds the folder's layout; writes labels drawn from annotations, and images embedded in JSON, into `work`."""
    top = {path.parts[0] for path in found}
    if {"leftImg8bit", "gtFine"} <= top:
        try:
            prepared = prepare_cityscapes(source, work / "cityscapes", progress)
        except (OSError, ValueError) as error:
            raise InputError(str(error)) from error
        pairs = {}
        for name in ("train", "val"):
            listed = read_list(prepared.root / f"{name}.txt", prepared.root)
            assert isinstance(listed, Pairs)
            pairs[name] = [Pair(source / pair.image.relative_to(prepared.root), pair.label) for pair in listed.pairs]
        return _Source(layouts.Layout("Cityscapes", pairs), CLASS_NAMES, class_colors())

    annotated, faults = coco.find(source, found)
    if not any(one.panoptic for one in annotated):
        shapes = labelme.find(source, found)
        layout = layouts.find(source, found)
        if any(layout.pairs.values()) or not (annotated or faults or shapes.jobs or shapes.faults):
            if shapes.jobs:
                layout.notes.append(f"{len(shapes.jobs)} labelme files are not used, because there are label images.")
            return _Source(layout)
        if shapes.jobs or shapes.faults:
            return _Source(*labelme.write_labels(shapes, source, found, work, options, progress))
    if faults:
        raise InputError(faults[0])
    layout, names = coco.write_labels(annotated, source, found, work / "labels", progress)
    return _Source(layout, names)


def _broken_notes(inspection: census.Census, options: Options) -> list[str]:
    """A note on the unreadable files that `skip_broken` omits.

    Raises:
        InputError: pairs are invalid, or files are unreadable without `skip_broken`.
    """
    if inspection.invalid:
        raise InputError(_join(inspection.invalid))
    if inspection.broken and not options.skip_broken:
        raise InputError(f"{_join(inspection.broken)} Repair or remove these files, or give --skip_broken.")
    return layouts.omission_notes([Path(problem.file).name for problem in inspection.broken], "cannot be read")


def _join(problems: Sequence[Problem]) -> str:
    more = f" ... and {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
    return " ".join(f"{problem.message.rstrip('.')}." for problem in problems[:_SHOWN]) + more


def _final_path(path: Path, work: Path, folder: Path) -> Path:
    """The path of a file after `work` has become `folder`."""
    return folder / path.relative_to(work) if work in path.parents else path


def _convert(
    infos: Sequence[PairInfo], meaning: encoding.Encoding, source: Path, folder: Path, work: Path, progress: Progress
) -> list[Path]:
    """Converts the labels that need it; returns the final path of every label."""
    jobs, paths, names = [], [], UniqueNames()
    for info in infos:
        label = info.pair.label
        drawn = work in label.parents
        if not (meaning.changes(info.values) or info.turn != 1 or not info.plain):
            paths.append(_final_path(label, work, folder))
            continue
        if drawn:
            name = label.relative_to(work)  # drawn into `work`, so it may be overwritten
        else:
            place = Path(os.path.normpath(label))  # paths in a list may contain `..`
            inside = place.relative_to(source) if source in place.parents else Path(place.name)
            name = names.assign(Path("labels", *inside.parts[inside.parts[0] == "labels" :]))
        jobs.append((info, Path(files.path_inside(work, str(name)))))
        paths.append(folder / name)

    def write(job: tuple[PairInfo, Path]) -> None:
        info, target = job
        array, _ = census.read_label(info.pair.label)
        assert array is not None, "the census has read this label"
        if meaning.of_colors and array.ndim == 2:  # the palette's colors are the values
            with image_files.open_image(info.pair.label) as image:
                array = np.asarray(image.convert("RGB"))
        label = meaning.apply(array)
        if info.turn != 1:
            label = orientation.turn(label, info.turn)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png(target, label)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in progress(pool.map(write, jobs), desc="convert", unit="file", total=len(jobs)):
            pass
    return paths


def _write_lists(
    work: Path,
    folder: Path,
    pairs: dict[str, list[tuple[Path, Path]]],
    names: Sequence[str],
    colors: Sequence[tables.RGB],
) -> bool:
    """Writes lists and class names; returns whether tabs separate the columns, because a path has spaces."""
    lines = {}
    for name, of_split in pairs.items():
        lines[name] = [
            (str(image), label.relative_to(folder).as_posix() if folder in label.parents else str(label))
            for image, label in of_split
        ]
    everything = [path for columns in lines.values() for line in columns for path in line]
    for path in everything:
        fault = image_files.text_fault(path)
        if fault:
            raise InputError(fault)
        if any(character in path for character in "\t\n\r"):
            raise InputError(f"{path!r} has a tab or a line break in its name, which lists cannot contain: rename it.")
        if path != path.strip():
            raise InputError(f"{path!r} begins or ends with a space, which lists would lose: rename it.")
    tab = any(" " in path for path in everything)
    content = {name: [("\t" if tab else " ").join(line) for line in columns] for name, columns in lines.items()}
    if colors:
        content["colors"] = [f"{name} {r} {g} {b}" for name, (r, g, b) in zip(names, colors)]
    write_lists(work, content, names)
    return tab
