"""Decides which number or color in labels is which class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Sequence

import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.classes import IGNORE_INDEX
from bisenetv1_plugin.datasets.own import tables
from bisenetv1_plugin.datasets.own.census import PairInfo, codes_of
from bisenetv1_plugin.datasets.own.options import Options
from bisenetv1_plugin.datasets.own.tables import RGB, Table
from bisenetv1_plugin.datasets.text import first_few
from bisenetv1_plugin.drawing.painter import voc_colors
from bisenetv1_plugin.errors import InputError

RARE = 1e-4  # share of all label pixels: rarer values are probably mistakes, not classes
_MAX_CLASSES = 255  # a byte has 256 values, and 255 means ignored
_SHOWN = 6


@dataclass
class Encoding:
    """A mapping from label values to class numbers.

    Attributes:
        of_colors: whether the labels are read as colors; otherwise as numbers.
        table: the class number, or 255, of every number or color code that occurs.
        names: class names.
        colors: class colors; empty if the labels have none.
        notes: sentences about the decisions.
    """

    of_colors: bool
    table: dict[int, int]
    names: list[str]
    colors: list[RGB] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def classes(self, values: Counter[int]) -> np.ndarray:
        """Pixels by class, int64 [256], for a label's pixels by value."""
        counts = np.zeros(256, np.int64)
        for value, count in values.items():
            counts[self.table[value]] += count
        return counts

    def changes(self, values: Counter[int]) -> bool:
        """Whether a label with these values must be converted."""
        return self.of_colors or any(self.table[value] != value for value in values)

    def apply(self, label: np.ndarray) -> np.ndarray:
        """Converts a label of numbers [H, W] or colors [H, W, 3] to class numbers, uint8 [H, W]."""
        if label.ndim == 3:
            label = codes_of(label) if self.of_colors else label[..., 0]
        if label.dtype == np.uint8:
            lut = np.full(256, IGNORE_INDEX, np.uint8)
            lut[list(self.table)] = list(self.table.values())
            return lut[label]
        known = np.array(sorted(self.table), np.int64)
        classes = np.array([self.table[value] for value in known.tolist()], np.uint8)
        result = np.empty(label.shape, np.uint8)
        for row, line in enumerate(label):  # by rows, because the search returns 64-bit indices
            result[row] = classes[np.searchsorted(known, line)]
        return result


def decide(
    infos: Sequence[PairInfo],
    options: Options,
    table: Table | None,
    names: Sequence[str] | None,
    drawn: bool = False,
) -> Encoding:
    """Decides what the values in all labels mean.

    Args:
        infos: all pairs; if palettes conflict, their values are replaced by colors.
        options: the user's options.
        table: the color table.
        names: class names from the folder (its `classes.txt` or annotations), for labels of numbers.
        drawn: whether the labels were drawn from annotations, so that 255 always means ignored.

    Raises:
        InputError: labels mix numbers and colors, a value may not be a class, or fewer than two classes remain.
    """
    palette, agree = _palette_of(infos)
    if not agree:
        note = "The palettes of the labels conflict, so classes are chosen by color, not by number."
        return _decide_colors(infos, options, table, [note])
    kinds = {info.kind for info in infos}
    if kinds == {"color", "palette"}:
        return _decide_colors(infos, options, table, [])
    if "color" in kinds and len(kinds) > 1:
        color, number = (next(s.pair.label for s in infos if s.kind in k) for k in (("color",), ("index", "palette")))
        raise InputError(f"label {color} has colors and {number} has numbers: save all labels in the same form.")
    notes = []
    if "color" in kinds:
        gray = table is None and all(value % 0x010101 == 0 for info in infos for value in info.values)
        if not gray:
            return _decide_colors(infos, options, table, [])
        notes.append("The labels are RGB with three equal channels: the value of a channel is the class number.")
        for info in infos:
            info.values = Counter({value // 0x010101: count for value, count in info.values.items()})
    return _decide_numbers(infos, options, table, names, palette, drawn, notes)


def _palette_of(infos: Sequence[PairInfo]) -> tuple[dict[int, RGB], bool]:
    """The combined palette of all labels, and whether their palettes agree."""
    palette: dict[int, RGB] = {}
    for info in infos:
        for value, color in info.palette.items():
            if palette.setdefault(value, color) != color and value != IGNORE_INDEX:
                return palette, False
    return palette, True


def _decide_numbers(
    infos: Sequence[PairInfo],
    options: Options,
    table: Table | None,
    names: Sequence[str] | None,
    palette: dict[int, RGB],
    drawn: bool,
    notes: Sequence[str],
) -> Encoding:
    """Decides what numbers mean; see `decide`. `notes`: decisions so far."""
    values = _total_counts(infos)
    used = sorted(set(values) - {IGNORE_INDEX})
    _check_range(infos, used)
    found, found_notes = _names_of(table, palette) if not (options.classes or names) else ((), [])
    names, notes = list(options.classes or names or found), [*notes, *found_notes]
    rare = [value for value in used if values[value] < RARE * sum(values.values())]
    common = [value for value in used if value not in rare]
    if options.classes and len(names) == len(common):
        order = common  # one name for each value that occurs
    else:
        order = list(range(len(names) or len(common)))  # the label value of each class
    doubtful = [value for value in used if value not in order] if names else _find_doubtful(common, rare)
    ignored = [value for value in doubtful if value in rare] if options.ignore_rare else []
    doubtful = [value for value in doubtful if value not in ignored]
    binary = not drawn and [value for value in used if value not in ignored] == [0] and IGNORE_INDEX in values
    mapping = {IGNORE_INDEX: IGNORE_INDEX, **dict.fromkeys(ignored, IGNORE_INDEX)}
    notes += _note_on_ignored(values, ignored)
    if binary and len(names) in (0, 2):
        notes.append("The labels have only the values 0 and 255: 255 became class 1, and nothing is ignored.")
        return _validate(Encoding(False, {**mapping, 0: 0, 255: 1}, names or ["background", "foreground"], [], notes))
    if doubtful and not options.keep_rare:
        _refuse_number(infos, doubtful, rare, used, len(names))
    order = order + doubtful if names else sorted({*common, *doubtful})
    mapping.update({value: order.index(value) for value in used if value not in ignored})
    if any(index != value for value, index in mapping.items() if value not in ignored):
        notes.append(f"The values {first_few(order, _SHOWN)} became the classes 0..{len(order) - 1}, in this order.")
        names += [f"value_{value}" for value in order[len(names) :]]
    names += map(str, order[len(names) :])
    colors: list[RGB] = []
    if any(color != (value, value, value) for value, color in palette.items()):  # a gray ramp has no class colors
        usual = voc_colors()
        colors = [palette.get(value, usual[value]) for value in order]
        void = [value for value in order if palette.get(value) == tables.VOC_VOID]
        if void:
            notes.append(
                f"The value {void[0]} has the color {tables.VOC_VOID}, which means void in VOC's labels, but it is a "
                "class here. If it is not a class, change it to 255 in the labels."
            )
    if table and not palette and tuple(names) == table.names:
        colors = list(table.colors())
    return _validate(Encoding(False, mapping, names, colors if len(set(colors)) == len(names) else [], notes))


def _check_range(infos: Sequence[PairInfo], used: Sequence[int]) -> None:
    """Raises InputError for numbers outside 0..255. `used`: sorted."""
    if used and not 0 <= used[0] <= used[-1] <= 255:
        beyond = used[-1] if used[-1] > 255 else used[0]
        path, count = _label_with_most(infos, beyond)
        raise InputError(
            f"label {path} contains the value {beyond} ({_pixels(count)}), but classes are 0..254: these may be object "
            "ids. Export labels of class numbers."
        )


def _names_of(table: Table | None, palette: dict[int, RGB]) -> tuple[Sequence[str], list[str]]:
    """Class names for labels of numbers, and a note if they are from the table.

    The table's names are matched by palette color, or by order if the table lacks a color. Without a table, labels with
    VOC's palette get VOC's names.
    """
    if not table:
        return tables.voc_names(palette) or (), []
    notes = [f"The class names are from {table.path}."]
    by_value = {value: table.codes.get(tables.code(rgb), -1) for value, rgb in palette.items() if value != IGNORE_INDEX}
    if not by_value or -1 in by_value.values():
        return table.names, notes
    named = {value: table.names[index] for value, index in by_value.items() if index is not None}
    return [named.get(value, f"value_{value}") for value in range(max(named) + 1)], notes


def _find_doubtful(common: list[int], rare: list[int]) -> list[int]:
    """Values that may not be classes, if no names are known: rare ones, and common ones after a gap in the numbers."""
    return sorted([*rare, *(value for index, value in enumerate(common) if value != index)])


def _refuse_number(
    infos: Sequence[PairInfo], doubtful: list[int], rare: list[int], used: list[int], named: int
) -> None:
    value = doubtful[0]
    if named:
        why = f"but only {named} classes have names (0..{named - 1})"
    elif value in rare:
        why = "less than 0.01 % of all pixels"
    else:
        why = f"but no label contains {first_few([number for number in range(value) if number not in used], _SHOWN)}"
    path, count = _label_with_most(infos, value)
    more = f" ({len(doubtful)} such values: {first_few(doubtful, _SHOWN)})" if len(doubtful) > 1 else ""
    more += "; edges smoothed by an editor or a resize cause this" if len(doubtful) > 8 else ""
    raise InputError(
        f"label {path} contains the value {value} ({_pixels(count)}), {why}{more}. Is it a class? --keep_rare makes "
        f"it one, --ignore_rare changes {'it' if value in rare else 'rare values'} to 255 in converted labels, and "
        "--classes NAME ... names every class."
    )


def _decide_colors(infos: Sequence[PairInfo], options: Options, table: Table | None, notes: Sequence[str]) -> Encoding:
    """Decides what colors mean; see `decide`. `notes`: decisions so far."""
    _palettes_to_colors(infos)
    values, notes = _total_counts(infos), list(notes)
    total = sum(values.values())
    known = dict(table.codes) if table else {}
    rare = [value for value in values if values[value] < RARE * total and value not in known]
    common = sorted(value for value in values if value not in known and value not in rare)
    doubtful = sorted([*common, *rare]) if table else sorted(rare)
    ignored: list[int] = []
    if options.ignore_rare:
        ignored, doubtful = sorted(rare), [value for value in doubtful if value not in rare]
    if doubtful and not options.keep_rare:
        _refuse_color(infos, max(doubtful, key=lambda value: values[value]), len(doubtful), rare, table)
    unnamed = sorted([*common, *(rare if options.keep_rare and not ignored else [])])
    names = list(table.names) if table else []
    colors = list(table.colors()) if table else []
    mapping = {number: IGNORE_INDEX if index is None else index for number, index in known.items()}
    for value in unnamed:
        mapping[value] = len(names)
        names.append("rgb_{}_{}_{}".format(*tables.rgb(value)))
        colors.append(tables.rgb(value))
        if len(names) > _MAX_CLASSES:
            path, _ = _label_with_most(infos, value)
            raise InputError(
                f"the labels have more than {_MAX_CLASSES} colors, for example {path}: are they photographs?"
            )
    mapping.update(dict.fromkeys(ignored, IGNORE_INDEX))
    if table:
        notes.append(f"The colors were converted to the classes in {table.path}.")
        void = [tables.rgb(number) for number, index in known.items() if index is None and number in values]
        if void:
            notes.append(f"{first_few(void, _SHOWN)} is void there and became 255 (ignored).")
    if unnamed and options.classes and len(options.classes) == len(names):
        names = list(options.classes)
    elif unnamed:
        notes.append(
            f"{len(unnamed)} colors have no name: they are classes called rgb_R_G_B, sorted by red, green and blue. "
            "Name them in classes.txt, or in colors.txt and use --colors colors.txt: `void` is ignored."
        )
    notes += _note_on_ignored(values, ignored)
    return _validate(Encoding(True, mapping, names, colors, notes))


def _palettes_to_colors(infos: Sequence[PairInfo]) -> None:
    for info in infos:
        if info.kind == "palette":
            values: Counter[int] = Counter()
            for value, count in info.values.items():
                values[tables.code(info.palette.get(value, (0, 0, 0)))] += count
            info.values, info.kind = values, "color"


def _refuse_color(
    infos: Sequence[PairInfo], value: int, doubtful: int, rare: list[int], table: Table | None
) -> NoReturn:
    """Raises InputError for a color that may not be a class. `doubtful`: the number of these colors."""
    path, count = _label_with_most(infos, value)
    why = f"which is not in {table.path}" if table else "less than 0.01 % of all"
    more = f" ({doubtful} such colors)" if doubtful > 1 else ""
    more += "; edges smoothed by an editor, a resize or JPEG cause this" if doubtful > 8 else ""
    raise InputError(
        f"label {path} has {_pixels(count)} of the color {tables.rgb(value)}, {why}{more}. Is it a class? "
        f"--keep_rare makes it one, --ignore_rare changes {'it' if value in rare else 'rare colors'} to 255 in "
        "converted labels" + (", or add it to the table." if table else ", --colors FILE says what each color is.")
    )


def _validate(encoding: Encoding) -> Encoding:
    if len(encoding.names) < 2:
        raise InputError(
            f"the labels have {len(encoding.names)} class{'es' * (len(encoding.names) != 1)} besides 255 (ignored): "
            "at least two are needed."
        )
    for name in encoding.names:
        if not name.strip() or any(end in name for end in "\n\r\0"):
            raise InputError(
                f"the class name {name!r} is empty or has a line break: give the class a name of one line."
            )
        fault = image_files.text_fault(name)
        if fault:
            raise InputError(fault)
    if len(set(encoding.names)) < len(encoding.names):
        twice = next(name for name in encoding.names if encoding.names.count(name) > 1)
        raise InputError(f"two classes are called {twice}: give each its own name.")
    return encoding


def _note_on_ignored(values: Counter[int], ignored: Sequence[int]) -> list[str]:
    if not ignored:
        return []
    pixels = _pixels(sum(values[value] for value in ignored))
    return [f"Rare values that became 255 (ignored): {len(ignored)}, with {pixels}."]


def _total_counts(infos: Sequence[PairInfo]) -> Counter[int]:
    total: Counter[int] = Counter()
    for info in infos:
        total.update(info.values)
    return total


def _label_with_most(infos: Sequence[PairInfo], value: int) -> tuple[Path, int]:
    """The label with the most pixels of a value, and their number."""
    info = max(infos, key=lambda info: info.values.get(value, 0))
    return info.pair.label, info.values[value]


def _pixels(count: int) -> str:
    return f"{count} pixel{'s' * (count != 1)}"
