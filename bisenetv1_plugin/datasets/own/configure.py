"""From a folder of images and labels to lists, labels of class numbers, names and a configuration."""

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
from bisenetv1_plugin.datasets.prepare import prepare_cityscapes
from bisenetv1_plugin.datasets.prepare.dataset_files import all_or_nothing, write_lists, write_png
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.progress import Progress, silent

_SHOWN = 3
_DEFAULTS = Options()


@dataclass
class Summary:
    """What was found and written.

    Attributes:
        config: the configuration.
        folder: with `train.txt`, `val.txt`, `classes.txt`, perhaps `colors.txt`, and `labels/` if any were converted.
        kind: the layout that was found.
        report: pixels by class, images and names, see `check.Report`.
        colors: RGB of the classes; empty where the data have none.
        recipe: what was chosen.
        converted: how many labels were written anew.
        notes: sentences on what was decided, left out, or cannot be known.
        pairs: (image, label) by `train` and `val`, as the lists have them.
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
    """Looks at a folder of images and labels, and writes what PaddleSeg needs to train on it.

    Every image and label is decoded once. Labels that are no class numbers in 8-bit files are written anew; the source
    is never touched. The new folder appears whole or not at all, and the configuration after it.

    Args:
        source: the folder; `layouts.find` says which layouts are known, and COCO's and Cityscapes' are.
        config: the YAML file to write, which must not exist.
        folder: the folder to write, which must not exist or be empty; default: `NAME_data` beside the configuration.
        options: what the user says.
        progress: see `progress.Progress`.

    Raises:
        InputError: something cannot be used; the sentence names file, value and cure.
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
        fault = image_files.text_fault(os.path.abspath(path))  # the lists have the folders' whole names
        if fault:
            raise InputError(fault)
    if config.suffix not in (".yml", ".yaml"):
        raise InputError(f"{config}: PaddleSeg wants the name of a configuration to end in .yml.")
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
    """Writes everything into `work`, which will become `folder`; the Summary and the configuration's text."""
    start = _source(source, found, work, options, progress)
    layout, notes = start.layout, list(start.layout.notes)
    pairs = [pair._replace(split=name) for name, of_split in layout.pairs.items() for pair in of_split]
    if not pairs:
        raise InputError(
            f"{source} has no images with labels, neither train.txt and val.txt nor images/ and labels/ that fit: "
            "lay them out as images/NAME.jpg and labels/NAME.png, or list pairs, `image label` a line."
        )
    inspection = census.inspect_pairs(pairs, progress)
    notes += _broken_notes(inspection, options)
    infos = inspection.usable
    if len(infos) < 2:
        usable = "one usable image with a label" if infos else "no usable image with a label"
        raise InputError(f"{source} has {usable}: two are the least, one trains and one validates. Add more.")
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
    if chosen.max_long and options.max_size is None:
        largest = max(sizes, key=lambda size: size[0] * size[1])
        notes.append(
            f"Images of up to {largest[0]}x{largest[1]} are resized to {chosen.max_long} pixels at the longest side, "
            "while training and deployed, for memory; --max_size N chooses another size, 0 none. Reading them takes "
            "most of the time: smaller copies train faster."
        )

    labels = _convert(infos, meaning, source, folder, work, progress)
    report = Report(str(config), classes=meaning.names)
    summary = Summary(config, folder, layout.kind, report, colors, chosen, notes=notes)
    summary.converted = sum(label != info.pair.label for label, info in zip(labels, infos))
    for name, indices in splits.items():
        summary.pairs[name] = [(_final_path(infos[i].pair.image, work, folder), labels[i]) for i in indices]
        report.counts[name] = classes[indices].sum(axis=0)
        report.ignored[name] = int(counts[indices, 255].sum())
        report.images[name] = len(indices)
    same = leaks(*([str(infos[index].pair.image) for index in splits[name]] for name in ("train", "val")))
    if same:
        raise InputError(same[0].message)
    tab = _write_lists(work, folder, summary.pairs, meaning.names, colors)
    content = recipe.text(
        chosen, folder.as_posix(), len(meaning.names), len(splits["train"]), tab, f"data of one's own ({layout.kind})"
    )
    return summary, content


def _source(source: Path, found: list[Path], work: Path, options: Options, progress: Progress) -> _Source:
    """Finds out what a folder is; labels that have to be drawn first, and pictures out of JSON, go into `work`."""
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
                layout.notes.append(f"{len(shapes.jobs)} labelme files are not used: there are labels as pictures.")
            return _Source(layout)
        if shapes.jobs or shapes.faults:
            return _Source(*labelme.write_labels(shapes, source, found, work, options, progress))
    if faults:
        raise InputError(faults[0])
    layout, names = coco.write_labels(annotated, source, found, work / "labels", progress)
    return _Source(layout, names)


def _broken_notes(inspection: census.Census, options: Options) -> list[str]:
    """A note on the broken files, where they may be left out.

    Raises:
        InputError: files are wrong, or broken and wanted.
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
    """The path that a file has once `work` has become `folder`."""
    return folder / path.relative_to(work) if work in path.parents else path


def _convert(
    infos: Sequence[PairInfo], meaning: encoding.Encoding, source: Path, folder: Path, work: Path, progress: Progress
) -> list[Path]:
    """Writes the labels that cannot stay as they are; the path that every label has in the end."""
    jobs, paths, names = [], [], UniqueNames()
    for info in infos:
        label = info.pair.label
        drawn = work in label.parents
        if not (meaning.changes(info.values) or info.turn != 1 or not info.plain):
            paths.append(_final_path(label, work, folder))
            continue
        if drawn:
            name = label.relative_to(work)  # it is overwritten, and nobody else's
        else:
            place = Path(os.path.normpath(label))  # a list may lead through `..` to anywhere
            inside = place.relative_to(source) if source in place.parents else Path(place.name)
            name = names.assign(Path("labels", *inside.parts[inside.parts[0] == "labels" :]))
        jobs.append((info, Path(files.path_inside(work, str(name)))))
        paths.append(folder / name)

    def write(job: tuple[PairInfo, Path]) -> None:
        info, target = job
        array, _ = census.read_label(info.pair.label)
        assert array is not None, "the census has read it"
        if meaning.of_colors and array.ndim == 2:  # a palette, whose colors count
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
    """Writes the lists and the names; True where tabs separate the columns, because names have spaces."""
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
            raise InputError(f"the name of {path!r} has a tab or the end of a line in it, and lists cannot: rename it.")
        if path != path.strip():
            raise InputError(f"the name of {path!r} begins or ends with a space, and lists lose it: rename it.")
    tab = any(" " in path for path in everything)
    content = {name: [("\t" if tab else " ").join(line) for line in columns] for name, columns in lines.items()}
    if colors:
        content["colors"] = [f"{name} {r} {g} {b}" for name, (r, g, b) in zip(names, colors)]
    write_lists(work, content, names)
    return tab
