"""The dataset class and the written files, next to PaddleSeg's own `Dataset`."""

import os

import numpy as np
import pytest

pytest.importorskip("paddleseg")
import paddleseg.transforms as T
from paddleseg.datasets import Dataset

from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import SyntheticStreetScenes, scene_seed, write_scenes

SIZE = (64, 32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_scenes(str(tmp_path_factory.mktemp("scenes") / "all"), train=4, val=2, size=SIZE)


def from_files(root, mode, transforms, num_classes=19):
    lists = {"train_path": os.path.join(root, "train.txt"), "val_path": os.path.join(root, "val.txt")}
    return Dataset(mode=mode, dataset_root=root, transforms=transforms, num_classes=num_classes, **lists)


@pytest.mark.parametrize("mode", ["train", "val"])
@pytest.mark.parametrize("transforms", [[], [T.Normalize()], [T.Resize((48, 48)), T.Normalize()]])
def test_samples_equal_paddleseg_on_written_files(root, mode, transforms):
    files = from_files(root, mode, list(transforms))
    drawn = SyntheticStreetScenes(mode, list(transforms), size=SIZE, num_samples=len(files))
    for expected, got in zip(files, drawn):
        assert got.keys() == expected.keys()
        assert got["gt_fields"] == expected["gt_fields"]
        assert got["trans_info"] == expected["trans_info"]
        for key in ("img", "label"):
            assert got[key].dtype == expected[key].dtype, key
            np.testing.assert_array_equal(got[key], expected[key], err_msg=key)


def test_attributes_that_tools_read():
    dataset = SyntheticStreetScenes("train", [T.Normalize()])
    assert (len(dataset), dataset.num_classes, dataset.ignore_index, dataset.img_channels) == (200, 19, 255, 3)
    assert (SyntheticStreetScenes.NUM_CLASSES, SyntheticStreetScenes.IGNORE_INDEX) == (19, 255)
    assert len(SyntheticStreetScenes("val", [])) == 40
    dataset.file_list *= 2
    assert len(dataset) == 400


@pytest.mark.slow
def test_loads_in_two_workers(python, tmp_path):
    """In a process of its own: Paddle's loader forks, and keeps a handler for the end of children, every child's."""
    code = f"""if True:
        import numpy as np, paddle, paddleseg.transforms as T
        from bisenetv1_plugin.datasets.synthetic import SyntheticStreetScenes
        for mode in ("train", "val"):
            dataset = SyntheticStreetScenes(mode, [T.Normalize()], size={list(SIZE)}, num_samples=4)
            loader = paddle.io.DataLoader(dataset, batch_size=2, num_workers=2, return_list=True)
            batches = list(loader)
            images = np.concatenate([batch["img"].numpy() for batch in batches])
            np.savez(mode + ".npz", img=images, label=batches[0]["label"])
    """
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    for mode, shape in (("train", (2, 32, 64)), ("val", (2, 1, 32, 64))):
        dataset = SyntheticStreetScenes(mode, [T.Normalize()], size=list(SIZE), num_samples=4)
        with np.load(tmp_path / f"{mode}.npz") as found:
            np.testing.assert_array_equal(found["img"], np.stack([sample["img"] for sample in dataset]))
            assert found["label"].shape == shape


def test_train_and_val_never_share_a_scene():
    train = {scene_seed("train", i, seed) for i in range(5000) for seed in (0, 1, 2**31)}
    val = {scene_seed("val", i, seed) for i in range(5000) for seed in (0, 1, 2**31)}
    assert not train & val
    assert max(train | val) < 2**32
    default, other = (SyntheticStreetScenes("train", [], seed=seed).file_list for seed in (0, 1))
    assert len(set(default)) == 200
    assert not set(default) & set(other)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"mode": "test"}, ValueError, "mode is 'test'"),
        ({"mode": None}, ValueError, "mode is None"),
        ({"size": (64, 0)}, ValueError, r"size is \(64, 0\)"),
        ({"size": 64}, ValueError, "size is 64"),
        ({"num_samples": 0}, ValueError, "num_samples is 0"),
        ({"num_samples": 2.5}, ValueError, "num_samples is 2.5"),
        ({"seed": "a"}, ValueError, "seed is 'a'"),
        ({"transforms": None}, TypeError, "transforms is None"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SyntheticStreetScenes(**{"mode": "train", "transforms": [], **arguments})


def test_written_layout(root):
    for mode, count in (("train", 4), ("val", 2)):
        with open(os.path.join(root, f"{mode}.txt"), encoding="utf-8") as f:
            lines = f.read().splitlines()
        assert len(lines) == count
        assert all(os.path.isfile(os.path.join(root, name)) for line in lines for name in line.split(" "))
    with open(os.path.join(root, "classes.txt"), encoding="utf-8") as f:
        assert f.read().splitlines()[:2] == ["road", "sidewalk"]
    assert sorted(os.listdir(os.path.dirname(root))) == ["all"]  # nothing left beside it


def test_written_choice_of_classes(tmp_path):
    seen = []

    def progress(items, **_):
        seen.extend(items)
        return items

    (tmp_path / "demo").mkdir()  # an empty directory will do
    path = write_scenes(tmp_path / "demo", 2, 1, SIZE, DEMO_CLASSES, progress=progress)
    assert len(seen) == 3
    labels = np.stack([sample["label"] for sample in from_files(path, "train", [], len(DEMO_CLASSES))])
    assert set(np.unique(labels)) <= {*range(len(DEMO_CLASSES)), 255}
    with open(os.path.join(path, "classes.txt"), encoding="utf-8") as f:
        assert f.read().splitlines() == [name for name, _ in DEMO_CLASSES]


def test_non_empty_directory_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not empty"):
        write_scenes(tmp_path, 1, 1, SIZE)
    with pytest.raises(FileExistsError, match="not empty"):
        write_scenes(tmp_path / "mine.txt", 1, 1, SIZE)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_no_partial_files_remain(tmp_path):
    def progress(items, **_):
        yield items[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", 2, 2, SIZE, progress=progress)
    assert os.listdir(tmp_path) == []
