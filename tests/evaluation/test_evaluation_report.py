"""`val --report`: counts compared with scikit-learn, files, and errors."""

import csv
import json
import re

import cv2
import numpy as np
import paddle
import pytest
from paddleseg.utils import metrics
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score
from small_network import run

from bisenetv1_plugin.drawing import plots
from bisenetv1_plugin.evaluation import confusion, evaluation_report, sheet
from bisenetv1_plugin.evaluation.confusion import Confusion

CLASSES, ABSENT, NEVER_PREDICTED, IGNORED = 6, 4, 5, 255


def pairs(images=5, seed=0):
    """Yield masks and labels of several sizes. Class 4 is absent, 5 never predicted, the first two rows are ignored."""
    random = np.random.RandomState(seed)
    known = [number for number in range(CLASSES) if number != ABSENT]
    for number in range(images):
        label = random.choice(known, size=(1, 1, 10 + number, 12))
        mask = np.where(random.rand(*label.shape) < 0.6, label, random.choice(known[:4], size=label.shape))
        mask[mask == NEVER_PREDICTED] = 0
        label[..., :2, :] = IGNORED
        yield mask.astype("int32"), label


def counted(data, **options):
    found = Confusion(CLASSES, IGNORED, **options)
    for mask, label in data:
        found.add(mask, label)
    return found


def flat(data):
    """Return the labels and masks of all pixels that are not ignored."""
    data = [(label[label != IGNORED], mask[label != IGNORED]) for mask, label in data]
    return [np.concatenate(part) for part in zip(*data)]


def rows_of(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


class Data:
    """A dataset with a `file_list`; the files need not exist."""

    def __init__(self, *file_list):
        self.file_list = [list(files) for files in file_list]

    def __len__(self):
        return len(self.file_list)

    def __getitem__(self, index):
        return {"img": np.linspace(-1, 1, 3 * 8 * 6, dtype="float32").reshape(3, 8, 6)}


class TestCounts:
    def test_equal_to_scikit_learn(self):
        data = list(pairs())
        labels, masks = flat(data)
        matrix = counted(data).matrix
        assert (matrix[:-1, :-1] == confusion_matrix(labels, masks, labels=range(CLASSES))).all()
        assert not matrix[-1].any() and not matrix[:, -1].any()
        options = {"labels": range(CLASSES), "average": None, "zero_division": 0}
        figures = confusion.class_figures(matrix)
        for figure, of_sklearn in zip(figures, (jaccard_score, precision_score, recall_score)):
            assert np.isnan(figure[ABSENT])
            known = ~np.isnan(figure)
            assert np.allclose(figure[known], of_sklearn(labels, masks, **options)[known], rtol=0, atol=1e-9)
        assert (
            np.isnan(figures.precision[NEVER_PREDICTED])
            and figures.recall[NEVER_PREDICTED] == 0 == figures.iou[NEVER_PREDICTED]
        )

    def test_figures_of_each_image(self):
        data = list(pairs())
        for image, pair in zip(counted(data).images, data):
            labels, masks = flat([pair])
            present = np.union1d(labels, masks)
            expected = jaccard_score(labels, masks, labels=present, average=None)
            assert image.iou == pytest.approx(expected.mean(), abs=1e-9)
            assert np.allclose(image.class_iou[present], expected, rtol=0, atol=1e-9)
            assert np.isnan(np.delete(image.class_iou, present)).all()
            assert image.acc == pytest.approx((labels == masks).mean(), abs=1e-9) and image.pixels == len(labels)

    @pytest.mark.parametrize("odd", [(77, 1), (1, 77)])
    def test_invalid_values_count_as_in_paddleseg(self, odd):
        """In labels they count as wrong predictions, in masks as missed pixels."""
        data = list(pairs())
        data[0][1][0, 0, 3, 3], data[0][0][0, 0, 3, 3] = odd
        areas = np.zeros((3, CLASSES), "int64")
        for pair in data:
            tensors = [paddle.to_tensor(array.astype("int64")) for array in pair]
            areas += [area.numpy() for area in metrics.calculate_area(*tensors, CLASSES, IGNORED)]
        areas = [paddle.to_tensor(area) for area in areas]
        acc, precision, recall = metrics.class_measurement(*areas)
        class_iou, miou = metrics.mean_iou(*areas)
        found = counted(data)
        assert found.disagreement(miou, acc, [class_iou, precision, recall]) is None
        assert found.matrix[-1].sum() + found.matrix[:, -1].sum() == 1

    def test_worst_images(self):
        """Images have a number of wrong columns out of ten. Two are equally bad; the first is ignored completely."""
        found = Confusion(2, IGNORED, worst=3)
        label = np.zeros((4, 10), "int64")
        found.add(label, np.full_like(label, IGNORED))
        for wrong in (3, 7, 0, 9, 7, 1):
            mask = label.copy()
            mask[:, :wrong] = 1
            found.add(mask, label)
        assert [worst.figures.number for worst in found.worst] == [4, 2, 5]
        assert (found.worst[0].mask != found.worst[0].label).sum() == 36
        assert found.worst[0].figures.mistake == (0, 1, 36, 0.9)
        order = [image.number for image in evaluation_report.sort_by_iou(found.images)]
        assert order == [4, 2, 5, 1, 6, 3, 0] and np.isnan(found.images[0].iou)

    def test_large_images_are_reduced(self):
        found = Confusion(2, IGNORED, worst=1)
        found.add(np.zeros((1500, 2000), "int64"), np.ones((1500, 2000), "int64"))
        assert found.worst[0].mask.shape == found.worst[0].label.shape == (480, 640)

    def test_ignored_pixels_of_worst_images(self):
        ((_, label, mask),) = counted(pairs(1), worst=1).worst
        assert (label[:2] == IGNORED).all() and label[2:].max() < CLASSES > mask.max()

    def test_most_confused_pairs(self):
        matrix = np.zeros((4, 4), "int64")
        matrix[:3, :3] = [[60, 2, 0], [18, 2, 8], [0, 10, 0]]
        first, second = confusion.most_confused(matrix, 9)
        assert first == (1, 0, 0.2, 18 / 28, 2 / 62) and second == (2, 1, 0.18, 1.0, 8 / 28)
        words = evaluation_report.describe_pair(first, ["sky", "7", "car"])
        assert words == (
            "class 7 and sky, 20.00% of all pixels: 64.3% of class 7 is predicted as sky, 3.2% of sky as class 7"
        )

    def test_disagreement_with_paddleseg(self):
        data = list(pairs())
        found = counted(data)
        figures = [
            np.nan_to_num(figure, nan=fill) for figure, fill in zip(confusion.class_figures(found.matrix), (1, 0, 0))
        ]
        acc = confusion.accuracy(found.matrix)
        assert found.disagreement(figures[0].mean(), acc, figures) is None
        figures[2][0] += 2e-9
        assert "recall and PaddleSeg's differ" in found.disagreement(figures[0].mean(), acc, figures)
        assert "accuracy and" in found.disagreement(figures[0].mean(), acc + 1e-8, figures)


class TestFiles:
    NAMES = ["sky", 'a|b, "c"', "道路", r"$\x$", "nobody", "never"]

    @pytest.fixture
    def folder(self, tmp_path):
        """A report on five images. Two have the same file name, and one does not exist."""
        files = [tmp_path / "data" / name for name in ("a/街.png", "b/街.png", "b/1.png", "b/2.png", "c.png")]
        for path in files[:-1]:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((30, 40, 3), 90, "uint8")).save(path)
        data = Data(*([str(path), None] for path in files))
        found = counted(pairs(), worst=2)
        names = evaluation_report.Names(self.NAMES, [], evaluation_report.image_names(data))
        remarks = evaluation_report.remarks(found, self.NAMES)
        evaluation_report.write(str(tmp_path / "report"), found, data, names, remarks)
        self.found = found
        return tmp_path / "report"

    def test_tables(self, folder):
        pixels, shares = rows_of(folder / "confusion_pixels.csv"), rows_of(folder / "confusion_shares.csv")
        assert pixels[0][1:] == self.NAMES == [row[0] for row in shares[1:]]
        assert (np.array([row[1:] for row in pixels[1:]], int) == self.found.matrix[:-1, :-1]).all()
        assert set(shares[1 + ABSENT][1:]) == {""} and sum(map(float, shares[1][1:])) == pytest.approx(1, abs=1e-9)
        assert all(path.read_bytes().startswith(b"\xef\xbb\xbf") for path in folder.glob("*.csv")), "for spreadsheets"
        classes = rows_of(folder / "classes.csv")
        iou = confusion.class_figures(self.found.matrix).iou
        assert classes[1 + ABSENT] == [str(ABSENT), "nobody", "0", "", "", ""]
        assert [float(row[3]) for row in classes[1:] if row[3]] == iou[~np.isnan(iou)].tolist()
        images = rows_of(folder / "images.csv")
        assert sorted(row[0] for row in images[1:]) == ["a/街.png", "b/1.png", "b/2.png", "b/街.png", "c.png"]
        values = [float(row[3]) for row in images[1:]]
        assert values == sorted(image.iou for image in self.found.images)
        assert len(set(map(len, images))) == 1

    def test_page(self, folder):
        page = (folder / "report.md").read_text(encoding="utf-8")
        assert "No label and no prediction has nobody. PaddleSeg's mIoU includes it anyway." in page
        assert "\n## Worst images\n" in page
        assert "| a\\|b, " in page and re.search(r"^1\. .* of all pixels: ", page, re.MULTILINE)
        titles = ["Most confused classes", "Confusion matrix", "Classes", "Worst images"]
        assert re.findall(r"^## (.*)$", page, re.MULTILINE) == titles
        for name in re.findall(r"\]\(([^)]+)\)", page):
            assert (folder / name).is_file(), name
        rows = [line for line in page.splitlines() if line.startswith("| ")]
        assert len(rows) == 2 + CLASSES + 2
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[: 1 + CLASSES]}) == 1

    def test_pictures(self, folder):
        """The sheet has two rows. In its last column, only wrong pixels are red."""
        sheet = np.asarray(Image.open(folder / "worst.png").convert("RGB")).astype(int)
        red = (sheet[..., 0] - sheet[..., 1:].max(axis=2) > 60) & (abs(sheet[..., 1] - sheet[..., 2]) < 20)
        last = red[:, sheet.shape[1] * 3 // 4 :]
        wrong = np.mean([((w.mask != w.label) & (w.label != 255)).mean() for w in self.found.worst])
        assert wrong / 3 < last.mean() < wrong
        assert min(Image.open(folder / "confusion.png").size) > 300

    def test_columns_of_worst_images(self, monkeypatch):
        drawn = []
        monkeypatch.setattr(plots, "draw_sheet", lambda path, rows, titles, *others: drawn.append((rows[0], titles)))
        ((_, label, mask),) = worst = counted(pairs(1), worst=1).worst
        grays = [(10 * number,) * 3 for number in range(CLASSES)]
        sheet.draw_worst("", worst, [""], Data(["not there.png"]), self.NAMES, grays)
        ((picture, truth, predicted, where), titles) = drawn[0]
        assert titles == ["picture", "label", "prediction", "where they differ"]
        assert (truth[..., 0] == 10 * label)[label != IGNORED].all() and (predicted[..., 0] == 10 * mask).all()
        assert picture.shape == where.shape == (*label.shape, 3)

    def test_files_are_recognized(self, folder, tmp_path):
        for path in evaluation_report.paths(str(folder)):
            assert evaluation_report.is_ours(path), path
        (folder / "classes.csv").write_text("class,name\nmine,1\n")
        Image.new("RGB", (4, 4)).save(folder / "worst.png")
        ours = [evaluation_report.is_ours(path) for path in evaluation_report.paths(str(folder))]
        assert ours.count(False) == 2

    def test_invalid_values(self, tmp_path):
        """The page names the most frequent mistake even if most pixels of a class are correct."""
        found = Confusion(2, IGNORED)
        found.add(np.array([[0, 0, 0, 7, 1]]), np.array([[0, 0, 9, 0, 9]]))
        names = evaluation_report.Names(["a", "b"], [], ["x.png"])
        remarks = evaluation_report.remarks(found, names.classes)
        assert remarks == ["2 pixels of the labels have an invalid class number. PaddleSeg counts them as wrong."]
        evaluation_report.write(str(tmp_path), found, Data(), names, remarks)
        assert rows_of(tmp_path / "confusion_pixels.csv") == [
            ["label \\ prediction", "a", "b", "(no class)"],
            *(["a", "2", "0", "1"], ["b", "0", "0", "0"], ["(no class)", "1", "1", "0"]),
        ]
        assert rows_of(tmp_path / "images.csv")[1][5:7] == ["a", "(no class)"]
        assert "| a | 60.00% | 0.5000 | 0.6667 | 0.6667 | (no class) (33.3%) |" in (tmp_path / "report.md").read_text()

    def test_all_pixels_ignored(self, tmp_path):
        found = Confusion(2, IGNORED, worst=2)
        found.add(np.zeros((3, 4), int), np.full((3, 4), IGNORED))
        names = evaluation_report.Names(["a", "b"], [], ["sample 1"])
        evaluation_report.write(str(tmp_path), found, Data(), names, evaluation_report.remarks(found, names.classes))
        assert rows_of(tmp_path / "images.csv")[1] == ["sample 1", "1", "0", *[""] * 7]
        assert not (tmp_path / "worst.png").exists() and "worst.png" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", ["=1+2", "+1", "-rf", "@sum", "\t=1"])
def test_names_are_not_formulas_in_spreadsheets(tmp_path, name):
    """Only names are quoted, not figures."""
    found = counted(pairs(), worst=1)
    classes = [name] * CLASSES
    evaluation_report.write(str(tmp_path), found, Data(), evaluation_report.Names(classes, [], [name] * 5), [])
    cells = [cell for path in tmp_path.glob("*.csv") for row in rows_of(path) for cell in row]
    assert f"'{name}" in cells and not [cell for cell in cells if cell.startswith(name)]
    assert [row[0] for row in rows_of(tmp_path / "images.csv")[1:]] == [f"'{name}"] * 5


def test_names_of_images():
    assert evaluation_report.image_names(Data(["/d/a/x.png", "l"], ["/d/b/x.png", "l"])) == ["a/x.png", "b/x.png"]
    assert evaluation_report.image_names(Data(["/d/a/x.png", "l"])) == ["x.png"]
    assert evaluation_report.image_names([0, 1]) == ["sample 1", "sample 2"]


class TestCommand:
    @pytest.fixture
    def val(self, small):
        def command(*flags):
            return run("val", "--config", small.config, "--model_path", small.weights, "--device", "cpu", *flags)

        return command

    def test_figures_equal_val(self, val, tmp_path, capsys):
        out = tmp_path / "new" / "report"
        assert val("--report", out, "--worst", 2, "--json", out / "val.json") == 0
        output = capsys.readouterr().out
        assert "Confused classes: " in output and output.endswith(f"The report is in {out / 'report.md'}\n")
        found = json.loads((out / "val.json").read_text())
        rows = rows_of(out / "classes.csv")[1:]
        assert [row[1] for row in rows] == found["classes"]
        for column, key in ((3, "class_iou"), (4, "class_precision"), (5, "class_recall")):
            mine, theirs = [row[column] for row in rows], found[key]
            assert [float(a) for a in mine if a] == pytest.approx([b for a, b in zip(mine, theirs) if a], abs=1e-9)
        assert "and PaddleSeg's differ" not in (out / "report.md").read_text()
        assert len(rows_of(out / "images.csv")) == 4
        table = (out / "report.md").read_text().split("| image |")[1]
        assert len(re.findall("^\\| ", table, re.MULTILINE)) == 2, "of three images the worst two"

        (out / "images.csv").write_text("image,mine\n")
        assert val("--report", out) == 2
        assert "images.csv exists, and no earlier run of this command made it" in capsys.readouterr().err
        (out / "images.csv").rename(tmp_path / "mine.csv")
        (out / "images.csv").symlink_to(tmp_path / "mine.csv")
        up = out / ".." / "report" / "val.json"
        assert val("--report", out / ".." / "report", "--json", up) == 2
        assert "images.csv exists, and no earlier run of this command made it" in capsys.readouterr().err
        (out / "images.csv").unlink()
        assert val("--report", out, "--json", up) == 0 and len(rows_of(out / "images.csv")) == 4

    def test_errors_before_evaluation(self, val, small, tmp_path, capsys):
        (tmp_path / "file").write_text("mine")
        (tmp_path / "list").write_text("images/val/00000.png\n")
        unlabeled = ["val_dataset.mode=test", f"val_dataset.test_path={tmp_path / 'list'}"]
        for flags, words in (
            (["--report", tmp_path / "file"], "it is a file; name a folder"),
            (["--report", tmp_path / "file" / "below"], "folder cannot be written there"),
            (["--worst", 3], "--worst needs --report DIR"),
            (["--worst", 0, "--report", tmp_path / "r"], "--worst"),
            (["--report", tmp_path / "r", "--json", tmp_path / "r" / "report.md"], "would be one file"),
            (["--report", tmp_path / "r", "--opts", "test_config.use_multilabel=True"], "use_multilabel"),
            (["--report", tmp_path / "r", "--opts", *unlabeled], "has no label for"),
        ):
            try:
                code = val(*flags)
            except SystemExit as end:
                code = end.code
            output = capsys.readouterr().err
            assert code == 2 and words in output, (flags, output)
        assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "r").exists()

    def test_error_in_several_processes(self, val, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 2)
        assert val("--report", tmp_path / "r") == 2
        assert "--report needs all images in one process" in capsys.readouterr().err

    def test_dataset_images_are_not_replaced(self, val, small, tmp_path, capsys):
        """Even with the metadata of a report's picture: a dataset may consist of these."""
        out = tmp_path / "out"
        assert val("--report", out, "--worst", 1) == 0
        sheet = cv2.imread(str(out / "worst.png"))
        Image.fromarray(np.zeros(sheet.shape[:2], "uint8")).save(tmp_path / "label.png")
        (tmp_path / "list.txt").write_text(f"{out / 'worst.png'} {tmp_path / 'label.png'}\n")
        assert val("--report", out, "--opts", f"val_dataset.val_path={tmp_path / 'list.txt'}") == 2
        assert "worst.png would be written, and it is read" in capsys.readouterr().err
