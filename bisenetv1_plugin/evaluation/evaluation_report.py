"""The files of `val --report`: the confusion matrix, figures of classes and images, the worst images, and a page."""

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
_BEGINNINGS = {  # identify files of an earlier report; pictures are identified by their metadata
    "report.md": "# Report of bisenetv1 val\n",
    "classes.csv": "class,name,pixels,iou,",
    "images.csv": "image,number,pixels,iou,",
    "confusion_pixels.csv": "label \\ prediction,",
    "confusion_shares.csv": "label \\ prediction,",
}
_PICTURES = ("confusion.png", "worst.png")
_BOM = "\ufeff"  # tells spreadsheets that the file is UTF-8


class Names(NamedTuple):
    """Names and colors in a report.

    Attributes:
        classes: the name of each class.
        colors: the RGB color of each class, or empty.
        images: the name of each image, see `image_names`.
    """

    classes: Sequence[str]
    colors: Sequence[Any]
    images: Sequence[str]


def paths(folder: str) -> list[str]:
    """Return the paths of a report's files."""
    return [os.path.join(folder, name) for name in (*_PICTURES, *_BEGINNINGS)]


def is_ours(path: str) -> bool:
    """Tell whether a file with one of these names was written by an earlier report."""
    name = os.path.basename(path)
    if name in _PICTURES:
        return files.made_by(plots.MADE_BY)(path)
    with open(path, "rb") as file:
        beginning = file.read(100).decode("utf-8", "replace")
    return beginning.lstrip(_BOM).startswith(_BEGINNINGS[name])


def image_names(dataset: Any) -> list[str]:
    """Return a unique name for each image: its path relative to their common folder."""
    paths = [sheet.image_file(dataset, number) for number in range(len(dataset))]
    known = [os.path.abspath(path) for path in paths if path]
    if not known or len(known) < len(paths):
        return [f"sample {number}" for number in range(1, len(paths) + 1)]
    folder = os.path.commonpath({os.path.dirname(path) for path in known})
    return [os.path.relpath(path, folder) for path in known]


def remarks(counted: Confusion, classes: Sequence[str]) -> list[str]:
    """Return sentences that explain the figures."""
    iou = confusion.class_figures(counted.matrix).iou
    absent = [name for name, value in zip(classes, iou) if value != value]
    others = int(counted.matrix[-1].sum())
    found = []
    if absent:
        found.append(
            f"No label and no prediction has {', '.join(absent)}. PaddleSeg's mIoU includes "
            f"{'it' if len(absent) == 1 else 'them'} anyway. The mean over the other classes is "
            f"{confusion.mean(iou):.4f}."
        )
    if others:
        found.append(f"{others} pixels of the labels have an invalid class number. PaddleSeg counts them as wrong.")
    return found


def summary_lines(counted: Confusion, names: Names) -> list[str]:
    """Return a summary of the report for the terminal, as lines."""
    pairs = confusion.most_confused(counted.matrix, 3)
    lines = [f"Confused classes: {describe_pair(pair, names.classes)}" for pair in pairs]
    lines = lines or ["No pixel has a wrong class."]
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
    """Write the report's files atomically, the page last.

    Args:
        folder: the folder, which is created if it does not exist.
        counted: the counts of all images.
        dataset: the evaluated PaddleSeg dataset, for the pictures of the worst images.
        names: names of the classes and images.
        summary: paragraphs for the top of the page.
        progress: see `bisenetv1_plugin.progress`.
    """
    matrix, classes = _matrix_with_names(counted, names.classes)
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
    """Describe how often two classes were confused."""
    first, second = (_class(number, classes) for number in (pair.first, pair.second))
    text = f"{first} and {second}, {pair.share:.2%} of all pixels: "
    text += f"{pair.first_share:.1%} of {first} is predicted as {second}"
    return text if not pair.second_share >= 0.0005 else f"{text}, {pair.second_share:.1%} of {second} as {first}"


def caption(image: ImageFigures, classes: Sequence[str]) -> str:
    """Describe the IoU of an image and its most frequent mistake."""
    return "; ".join(filter(None, [f"IoU {image.iou:.3f}", _describe_mistake(image, classes)]))


def _describe_mistake(image: ImageFigures, classes: Sequence[str]) -> str:
    if image.mistake is None:
        return ""
    label, prediction = _class(image.mistake.label, classes), _class(image.mistake.prediction, classes)
    return f"{label} predicted as {prediction} on {image.mistake.share:.2%} of its pixels"


def _class(number: int, classes: Sequence[str]) -> str:
    name = classes[number] if number < len(classes) else NO_CLASS
    return f"class {name}" if name.isdecimal() else name


def _matrix_with_names(counted: Confusion, classes: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """Return the matrix and its class names. Invalid values are included only if a pixel has one."""
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
    """Sort images by IoU, the worst first; images with only ignored pixels come last."""
    return sorted(images, key=lambda image: (image.iou != image.iou, image.iou, image.number))


def _write_csv(path: str, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file in UTF-8; NaN is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    files.write(path, (_BOM + text.getvalue()).encode("utf-8", "backslashreplace"))


def _cell(value: Any) -> Any:
    """Format a cell. Names that start like a formula are quoted, because spreadsheets would evaluate them."""
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
        "## Most confused classes",
        "\n".join(pairs) or "No pixel has a wrong class.",
        "## Confusion matrix",
        "![Rows are the classes of the labels, columns the predicted classes; rows are in percent](confusion.png)",
        "The figures: [shares](confusion_shares.csv), [pixels](confusion_pixels.csv).",
        "## Classes",
        _class_table(counted, classes),
        "Classes without pixels have no figures. This table is also in [classes.csv](classes.csv).",
        "## Worst images",
        *(["![The picture, its label, the prediction and where they differ](worst.png)"] * bool(counted.worst)),
        _image_table(counted, names, classes),
        "[images.csv](images.csv) has all images, with the IoU of every class. IoU is the mean over the classes in an "
        "image's label or prediction.",
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
        share = f"{matrix[number].sum() / total:.2%}" if total else ""
        rows.append([name, share, *("" if figure != figure else f"{figure:.4f}" for figure in figures), taken])
    titles = ["class", "of all pixels", "IoU", "precision", "recall", "most often predicted as"]
    return text_table.markdown(titles, rows)


def _image_table(counted: Confusion, names: Names, classes: Sequence[str]) -> str:
    rows = []
    for worst in counted.worst:
        image = worst.figures
        figures = [f"{image.iou:.4f}", f"{image.acc:.4f}"]
        rows.append([_markdown(names.images[image.number]), *figures, _describe_mistake(image, classes)])
    return text_table.markdown(["image", "IoU", "accuracy", "most frequent mistake"], rows)


def _markdown(text: str) -> str:
    """Escape text for Markdown and put it on one line."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line(text))
