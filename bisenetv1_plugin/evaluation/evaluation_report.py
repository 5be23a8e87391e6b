"""What `val --report` writes: the confusion matrix, the figures of classes and of images, the worst of them, a page."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, Iterable, NamedTuple, Sequence

from bisenetv1_plugin import files
from bisenetv1_plugin.drawing import painter, plots
from bisenetv1_plugin.errors import line
from bisenetv1_plugin.evaluation import confusion, sheet, text_table
from bisenetv1_plugin.evaluation.confusion import Confusion, ImageFigures
from bisenetv1_plugin.progress import Progress, silent

NO_CLASS = "(no class)"
_BEGINNINGS = {  # by which an earlier report is recognized; the figures mark themselves
    "report.md": "# Report of bisenetv1 val\n",
    "classes.csv": "class,name,pixels,iou,",
    "images.csv": "image,number,pixels,iou,",
    "confusion_pixels.csv": "label \\ prediction,",
    "confusion_shares.csv": "label \\ prediction,",
}
_PICTURES = ("confusion.png", "worst.png")
_BOM = "\ufeff"  # by which spreadsheets know UTF-8


class Names(NamedTuple):
    """What a report calls things.

    Attributes:
        classes: a name each.
        colors: RGB of each class, or none.
        images: a name each, see `image_names`.
    """

    classes: Sequence[str]
    colors: Sequence[Any]
    images: Sequence[str]


def paths(folder: str) -> list[str]:
    """The files of a report."""
    return [os.path.join(folder, name) for name in (*_PICTURES, *_BEGINNINGS)]


def is_ours(path: str) -> bool:
    """Whether a file of one of these names is of an earlier report."""
    name = os.path.basename(path)
    if name in _PICTURES:
        return files.made_by(plots.MADE_BY)(path)
    with open(path, "rb") as file:
        beginning = file.read(100).decode("utf-8", "replace")
    return beginning.lstrip(_BOM).startswith(_BEGINNINGS[name])


def image_names(dataset: Any) -> list[str]:
    """A name for each image that tells it from all others: its path, below the folder that all of them are in."""
    paths = [sheet.image_file(dataset, number) for number in range(len(dataset))]
    known = [os.path.abspath(path) for path in paths if path]
    if not known or len(known) < len(paths):
        return [f"sample {number}" for number in range(1, len(paths) + 1)]
    folder = os.path.commonpath({os.path.dirname(path) for path in known})
    return [os.path.relpath(path, folder) for path in known]


def remarks(counted: Confusion, classes: Sequence[str]) -> list[str]:
    """What a reader of the figures has to know, a sentence each."""
    iou = confusion.class_figures(counted.matrix).iou
    absent = [name for name, value in zip(classes, iou) if value != value]
    others = int(counted.matrix[-1].sum())
    found = []
    if absent:
        found.append(
            f"No label and no prediction has {', '.join(absent)}: PaddleSeg's mIoU takes "
            f"{'it' if len(absent) == 1 else 'them'} in all the same. The mean over the other classes is "
            f"{confusion.mean(iou):.4f}."
        )
    if others:
        found.append(f"{others} pixels of the labels have a number that is no class; PaddleSeg counts them as wrong.")
    return found


def summary_lines(counted: Confusion, names: Names) -> list[str]:
    """The report for a terminal, a line each."""
    pairs = confusion.most_confused(counted.matrix, 3)
    lines = [f"Taken for one another: {describe_pair(pair, names.classes)}" for pair in pairs]
    lines = lines or ["No pixel was taken for another class."]
    for worst in counted.worst[:1]:
        figures = worst.figures
        lines.append(f"The worst image is {names.images[figures.number]}: {caption(figures, names.classes)}")
    return lines


def write(
    folder: str,
    counted: Confusion,
    dataset: Any,
    names: Names,
    summary: Sequence[str],
    progress: Progress = silent,
) -> None:
    """Write the report's files, each whole or not at all; the page comes last.

    Args:
        folder (str): is made where it is not there.
        counted (Confusion): after the last image.
        dataset (paddle.io.Dataset): what was evaluated, for the pictures of the worst images.
        names (Names): of the classes and of the images.
        summary (sequence[str]): paragraphs for the head of the page.
        progress (Progress): see `bisenetv1_plugin.progress`.
    """
    matrix, classes = _named(counted, names.classes)
    shares = confusion.row_shares(matrix)
    worst = counted.worst
    short = [plots.shorten(name, 24) for name in painter.drawable_names(classes)]
    captions = [
        f"{plots.shorten(names.images[each.figures.number], 50)}: {caption(each.figures, short)}" for each in worst
    ]
    steps = {
        "confusion_pixels.csv": lambda path: _write_csv(path, _confusion_rows(matrix, classes)),
        "confusion_shares.csv": lambda path: _write_csv(path, _confusion_rows(shares, classes)),
        "classes.csv": lambda path: _write_csv(path, _class_rows(counted, names.classes)),
        "images.csv": lambda path: _write_csv(path, _image_rows(counted, names, classes)),
        "confusion.png": lambda path: plots.draw_confusion(path, shares, classes),
        "worst.png": lambda path: worst and sheet.draw_worst(path, worst, captions, dataset, classes, names.colors),
        "report.md": lambda path: _write_page(path, counted, names, summary),
    }
    for name, step in progress(steps.items(), desc="report", unit="file"):
        step(os.path.join(folder, name))


def describe_pair(pair: confusion.ConfusedPair, classes: Sequence[str]) -> str:
    """How much of two classes was taken for the other."""
    first, second = (_class(number, classes) for number in (pair.first, pair.second))
    text = (
        f"{first} and {second}, {pair.share:.1%} of all pixels: {pair.first_share:.1%} of {first} is taken for {second}"
    )
    return text if not pair.second_share >= 0.0005 else f"{text}, {pair.second_share:.1%} of {second} for {first}"


def caption(image: ImageFigures, classes: Sequence[str]) -> str:
    """IoU of an image, and its largest mistake."""
    return "; ".join(filter(None, [f"IoU {image.iou:.3f}", _describe_mistake(image, classes)]))


def _describe_mistake(image: ImageFigures, classes: Sequence[str]) -> str:
    if image.mistake is None:
        return ""
    label, prediction = _class(image.mistake.label, classes), _class(image.mistake.prediction, classes)
    return f"{label} taken for {prediction} on {image.mistake.share:.1%} of its pixels"


def _class(number: int, classes: Sequence[str]) -> str:
    name = classes[number] if number < len(classes) else NO_CLASS
    return f"class {name}" if name.isdecimal() else name


def _named(counted: Confusion, classes: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """The matrix and names of its classes; with what is no class only where there is such a pixel."""
    matrix = counted.matrix
    if matrix[-1].any() or matrix[:, -1].any():
        return matrix, [*classes, NO_CLASS]
    return matrix[:-1, :-1], classes


def _confusion_rows(matrix: Any, classes: Sequence[str]) -> Iterable[Sequence[Any]]:
    yield ["label \\ prediction", *classes]
    for name, row in zip(classes, matrix.tolist()):
        yield [name, *row]


def _class_rows(counted: Confusion, classes: Sequence[str]) -> Iterable[Sequence[Any]]:
    figures = confusion.class_figures(counted.matrix)
    yield ["class", "name", "pixels", "iou", "precision", "recall"]
    pixels = counted.matrix[:-1].sum(axis=1).tolist()
    for number, row in enumerate(zip(classes, pixels, *(figure.tolist() for figure in figures))):
        yield [number, *row]


def _image_rows(counted: Confusion, names: Names, classes: Sequence[str]) -> Iterable[Sequence[Any]]:
    yield [
        *("image", "number", "pixels", "iou", "accuracy"),
        *("mistaken", "taken_for", "share"),
        *(f"iou {name}" for name in names.classes),
    ]
    for image in sort_by_iou(counted.images):
        mistake: Sequence[Any] = ("", "", "")
        if image.mistake:
            mistake = (*(classes[number] for number in image.mistake[:2]), image.mistake.share)
        figures = [image.number + 1, image.pixels, image.iou, image.acc]
        yield [names.images[image.number], *figures, *mistake, *image.class_iou.tolist()]


def sort_by_iou(images: Iterable[ImageFigures]) -> list[ImageFigures]:
    """By IoU; at the end those without a pixel that counts."""
    return sorted(images, key=lambda image: (image.iou != image.iou, image.iou, image.number))


def _write_csv(path: str, rows: Iterable[Sequence[Any]]) -> None:
    """UTF-8; a figure that is no number is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    files.write(path, (_BOM + text.getvalue()).encode("utf-8", "backslashreplace"))


def _cell(value: Any) -> Any:
    """A spreadsheet takes a name for a formula, and computes it, that begins like one."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return "" if value != value else value


def _write_page(path: str, counted: Confusion, names: Names, summary: Sequence[str]) -> None:
    classes = [_markdown(name) for name in names.classes]
    pairs = [
        f"{n}. {describe_pair(pair, classes)}" for n, pair in enumerate(confusion.most_confused(counted.matrix, 10), 1)
    ]
    parts = [
        *map(_markdown, summary),
        "## Classes most taken for one another",
        "\n".join(pairs) or "No pixel was taken for another class.",
        "## Confusion matrix",
        "![Rows are the classes of the labels, columns those predicted; each row in percent](confusion.png)",
        "The figures: [shares](confusion_shares.csv), [pixels](confusion_pixels.csv).",
        "## Classes",
        _class_table(counted, classes),
        "A class without pixels has no figure. The same in [classes.csv](classes.csv).",
        "## WorstImage images",
        *(["![The picture, its label, the prediction and where they differ](worst.png)"] * bool(counted.worst)),
        _image_table(counted, names, classes),
        "All of them, with the IoU of every class: [images.csv](images.csv). IoU is the mean over the classes that an "
        "image's label or prediction has.",
    ]
    text = "\n\n".join([_BEGINNINGS["report.md"].rstrip(), *parts]) + "\n"
    files.write(path, text.encode("utf-8", "backslashreplace"))


def _class_table(counted: Confusion, classes: Sequence[str]) -> str:
    matrix = counted.matrix
    total, of_label, wrong = matrix.sum(), confusion.row_shares(matrix), confusion.mistakes(matrix)
    rows = []
    for number, (name, *figures) in enumerate(zip(classes, *confusion.class_figures(matrix))):
        other = int(wrong[number].argmax())
        taken = f"{_class(other, classes)} ({of_label[number, other]:.1%})" if wrong[number, other] else ""
        share = f"{matrix[number].sum() / total:.1%}" if total else ""
        rows.append([name, share, *("" if figure != figure else f"{figure:.4f}" for figure in figures), taken])
    return text_table.markdown(["class", "of all pixels", "IoU", "precision", "recall", "most taken for"], rows)


def _image_table(counted: Confusion, names: Names, classes: Sequence[str]) -> str:
    rows = []
    for worst in counted.worst:
        image = worst.figures
        figures = [f"{image.iou:.4f}", f"{image.acc:.4f}"]
        rows.append([_markdown(names.images[image.number]), *figures, _describe_mistake(image, classes)])
    return text_table.markdown(["image", "IoU", "accuracy", "largest mistake"], rows)


def _markdown(text: str) -> str:
    """Text that has no meaning to Markdown, on one line."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line(text))
