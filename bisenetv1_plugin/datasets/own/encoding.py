"""What the values of labels mean: which numbers or colors are which class, and which are none."""

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

RARE = 1e-4  # a value with a smaller share of all label pixels is more likely a slip than a class
_MAX_CLASSES = 255  # classes in a byte, beside 255
_SHOWN = 6


@dataclass
class Encoding:
    """From what is in the labels to class numbers.

    Attributes:
        of_colors: the labels are read as colors; otherwise as numbers.
        table: the class, or 255, of every number or color code that occurs.
        names: of the classes.
        colors: of the classes; empty where the labels have none.
        notes: sentences on what was decided.
    """

    of_colors: bool
    table: dict[int, int]
    names: list[str]
    colors: list[RGB] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def classes(self, values: Counter[int]) -> np.ndarray:
        """int64 [256]: pixels by class number, of a label's pixels by value."""
        counts = np.zeros(256, np.int64)
        for value, count in values.items():
            counts[self.table[value]] += count
        return counts

    def changes(self, values: Counter[int]) -> bool:
        """Whether a label with these values becomes another one."""
        return self.of_colors or any(self.table[value] != value for value in values)

    def apply(self, label: np.ndarray) -> np.ndarray:
        """Class numbers uint8 [H, W] of a label of numbers [H, W] or colors [H, W, 3]."""
        if label.ndim == 3:
            label = codes_of(label) if self.of_colors else label[..., 0]
        if label.dtype == np.uint8:
            lut = np.full(256, IGNORE_INDEX, np.uint8)
            lut[list(self.table)] = list(self.table.values())
            return lut[label]
        known = np.array(sorted(self.table), np.int64)
        classes = np.array([self.table[value] for value in known.tolist()], np.uint8)
        result = np.empty(label.shape, np.uint8)
        for row, line in enumerate(label):  # a line at a time: the search counts in 64 bits
            result[row] = classes[np.searchsorted(known, line)]
        return result


def decide(
    infos: Sequence[PairInfo],
    options: Options,
    table: Table | None,
    names: Sequence[str] | None,
    drawn: bool = False,
) -> Encoding:
    """Decides what the values of all labels together mean.

    Args:
        infos: every pair. Labels of palettes that contradict one another become colors.
        options: of the user.
        table: colors by name.
        names: what the folder itself says (its `classes.txt`, its annotations), for labels of numbers.
        drawn: the labels were made of annotations, so that 255 is nothing but ignored.

    Raises:
        InputError: some labels are numbers and others colors, a value is a class only perhaps, or fewer than two
            classes are left.
    """
    palette, agree = _palette_of(infos)
    if not agree:
        note = "The palettes of the labels contradict one another, so their colors count, not numbers."
        return _decide_colors(infos, options, table, [note])
    kinds = {info.kind for info in infos}
    if kinds == {"color", "palette"}:
        return _decide_colors(infos, options, table, [])
    if "color" in kinds and len(kinds) > 1:
        color, number = (next(s.pair.label for s in infos if s.kind in k) for k in (("color",), ("index", "palette")))
        raise InputError(f"{color} has colors and {number} numbers: make all labels of one kind.")
    notes = []
    if "color" in kinds:
        gray = table is None and all(value % 0x010101 == 0 for info in infos for value in info.values)
        if not gray:
            return _decide_colors(infos, options, table, [])
        notes.append("The labels are RGB with three equal channels: one of them counts as the class number.")
        for info in infos:
            info.values = Counter({value // 0x010101: count for value, count in info.values.items()})
    return _decide_numbers(infos, options, table, names, palette, drawn, notes)


def _palette_of(infos: Sequence[PairInfo]) -> tuple[dict[int, RGB], bool]:
    """The colors of all palettes together, and whether they agree."""
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
    """The meaning of numbers; see `decide`. `notes`: what was decided before."""
    values = _total_counts(infos)
    used = sorted(set(values) - {IGNORE_INDEX})
    _check_range(infos, used)
    found, found_notes = _names_of(table, palette) if not (options.classes or names) else ((), [])
    names, notes = list(options.classes or names or found), [*notes, *found_notes]
    rare = [value for value in used if values[value] < RARE * sum(values.values())]
    common = [value for value in used if value not in rare]
    if options.classes and len(names) == len(common):
        order = common  # a name for each value there is, whatever the values are
    else:
        order = list(range(len(names) or len(common)))  # by class, the value that it has in the labels
    doubtful = [value for value in used if value not in order] if names else _doubtful(common, rare)
    ignored = [value for value in doubtful if value in rare] if options.ignore_rare else []
    doubtful = [value for value in doubtful if value not in ignored]
    binary = not drawn and [value for value in used if value not in ignored] == [0] and IGNORE_INDEX in values
    mapping = {IGNORE_INDEX: IGNORE_INDEX, **dict.fromkeys(ignored, IGNORE_INDEX)}
    notes += _note_on_ignored(values, ignored)
    if binary and len(names) in (0, 2):
        notes.append("The labels have the values 0 and 255 alone: 255 is class 1 here, and nothing is ignored.")
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
    if any(color != (value, value, value) for value, color in palette.items()):  # a ramp of grays tells nothing apart
        usual = voc_colors()
        colors = [palette.get(value, usual[value]) for value in order]
        void = [value for value in order if palette.get(value) == tables.VOC_VOID]
        if void:
            notes.append(
                f"The value {void[0]} has the color {tables.VOC_VOID}, which is void in VOC's labels: it is a class "
                "here. If it is none, make it 255 in the labels."
            )
    if table and not palette and tuple(names) == table.names:
        colors = list(table.colors())
    return _validate(Encoding(False, mapping, names, colors if len(set(colors)) == len(names) else [], notes))


def _check_range(infos: Sequence[PairInfo], used: Sequence[int]) -> None:
    """Refuses numbers that no class can have. `used`: sorted."""
    if used and not 0 <= used[0] <= used[-1] <= 255:
        beyond = used[-1] if used[-1] > 255 else used[0]
        path, count = _label_with_most(infos, beyond)
        raise InputError(
            f"label {path} has {_pixels(count)} of {beyond}, and classes are 0..254: these may be objects' numbers. "
            "Export labels of class numbers."
        )


def _names_of(table: Table | None, palette: dict[int, RGB]) -> tuple[Sequence[str], list[str]]:
    """Names for numbers: of the table, by the palette's colors if they are in it, else in its order; or VOC's.

    And a note, where they are the table's.
    """
    if not table:
        return tables.voc_names(palette) or (), []
    notes = [f"The classes have the names of {table.path}."]
    by_value = {value: table.codes.get(tables.code(rgb), -1) for value, rgb in palette.items() if value != IGNORE_INDEX}
    if not by_value or -1 in by_value.values():
        return table.names, notes
    named = {value: table.names[index] for value, index in by_value.items() if index is not None}
    return [named.get(value, f"value_{value}") for value in range(max(named) + 1)], notes


def _doubtful(common: list[int], rare: list[int]) -> list[int]:
    """Without names: the rare values, and the common ones behind a gap in the numbers."""
    return sorted([*rare, *(value for index, value in enumerate(common) if value != index)])


def _refuse_number(
    infos: Sequence[PairInfo], doubtful: list[int], rare: list[int], used: list[int], named: int
) -> None:
    value = doubtful[0]
    if named:
        why = f"and there are names for {named} classes (0..{named - 1})"
    elif value in rare:
        why = "less than 0.01 % of all"
    else:
        why = f"and none of {first_few([number for number in range(value) if number not in used], _SHOWN)}"
    path, count = _label_with_most(infos, value)
    more = f" ({len(doubtful)} such values: {first_few(doubtful, _SHOWN)})" if len(doubtful) > 1 else ""
    more += "; edges smoothed by an editor or by a resize do this" if len(doubtful) > 8 else ""
    raise InputError(
        f"label {path} has {_pixels(count)} of {value}, {why}{more}. Is it a class? --keep_rare makes it one, "
        f"--ignore_rare makes {'it' if value in rare else 'rare values'} 255 in converted labels, and "
        "--classes NAME ... gives every class its name."
    )


def _decide_colors(infos: Sequence[PairInfo], options: Options, table: Table | None, notes: Sequence[str]) -> Encoding:
    """The meaning of colors; see `decide`. `notes`: what was decided before."""
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
                f"the labels have more than {_MAX_CLASSES} colors, for example {path}: are these photographs?"
            )
    mapping.update(dict.fromkeys(ignored, IGNORE_INDEX))
    if table:
        notes.append(f"The colors were turned into the classes of {table.path}.")
        void = [tables.rgb(number) for number, index in known.items() if index is None and number in values]
        if void:
            notes.append(f"{first_few(void, _SHOWN)} is called void there and became 255 (ignored).")
    if unnamed and options.classes and len(options.classes) == len(names):
        names = list(options.classes)
    elif unnamed:
        notes.append(
            f"{len(unnamed)} colors have no name: they are classes in the order of red, green, blue, called "
            "rgb_R_G_B. Name them in classes.txt, or in colors.txt and give that as --colors: `void` is ignored."
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
    """Says that a color may be none of a class. `doubtful`: how many such colors there are."""
    path, count = _label_with_most(infos, value)
    why = f"which {table.path} does not have" if table else "less than 0.01 % of all"
    more = f" ({doubtful} such colors)" if doubtful > 1 else ""
    more += "; edges smoothed by an editor, a resize or JPEG do this" if doubtful > 8 else ""
    raise InputError(
        f"label {path} has {_pixels(count)} of the color {tables.rgb(value)}, {why}{more}. Is it a class? "
        f"--keep_rare makes it one, --ignore_rare makes {'it' if value in rare else 'rare colors'} 255 in "
        "converted labels" + (", or add it to the table." if table else ", --colors FILE says what each color is.")
    )


def _validate(encoding: Encoding) -> Encoding:
    if len(encoding.names) < 2:
        raise InputError(
            f"the labels have {len(encoding.names)} class{'es' * (len(encoding.names) != 1)} beside 255 (ignored): "
            "with fewer than two there is nothing to tell apart."
        )
    for name in encoding.names:
        if not name.strip() or any(end in name for end in "\n\r\0"):
            raise InputError(f"a class is called {name!r}, and lists of names cannot: give it a name of one line.")
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
    return [f"{_pixels(sum(values[v] for v in ignored))} of {len(ignored)} rare values became 255 (ignored)."]


def _total_counts(infos: Sequence[PairInfo]) -> Counter[int]:
    total: Counter[int] = Counter()
    for info in infos:
        total.update(info.values)
    return total


def _label_with_most(infos: Sequence[PairInfo], value: int) -> tuple[Path, int]:
    """The label with the most pixels of a value, and how many these are."""
    info = max(infos, key=lambda info: info.values.get(value, 0))
    return info.pair.label, info.values[value]


def _pixels(count: int) -> str:
    return f"{count} pixel{'s' * (count != 1)}"
