"""The parts of a resumed training. tests/test_training.py tests whole trainings."""

import json
import os
import pickle
import random
import shutil

import numpy as np
import paddle
import pytest

from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
from bisenetv1_plugin.compat import core_train, progress_file, resumed_training, small_batches
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1
from bisenetv1_plugin.models.variants import VARIANTS

PROGRESS = {
    "begun": 10.5,
    "saved": 11.5,
    "seed": 3,
    "average": True,
    "mIoU": 0.25,
    "ema_mIoU": None,
    "stop_count": 2,
    "loss_scaling": None,
}


def write(folder, **values):
    progress_file.write(str(folder), **{**PROGRESS, **values})


class TestSampler:
    @pytest.mark.parametrize("images, batch, processes", [(12, 2, 1), (13, 4, 1), (7, 7, 1), (13, 3, 2)])
    def test_order_continues_after_a_stop(self, images, batch, processes):
        def batches(done, count):
            found = []
            options = {"batch_size": batch, "shuffle": True, "drop_last": True, "num_replicas": processes, "rank": 0}
            sampler = resumed_training._Sampler(range(images), done=done, **options)
            upstreams = paddle.io.DistributedBatchSampler(range(images), **options)
            upstreams.epoch = sampler.epoch
            while len(found) < count:
                if not found and not done % len(sampler):
                    assert [list(map(int, indices)) for indices in sampler] == list(upstreams)
                    sampler.epoch -= 1
                for indices in sampler:
                    assert len({index.epoch for index in indices}) == 1
                    found.append([(index.epoch, int(index)) for index in indices])
            return found[:count]

        straight = batches(0, 20)
        for done in range(20):
            assert batches(done, 20 - done) == straight[done:]

    def test_skipped_batches_are_not_read(self):
        read = []

        class Images(paddle.io.Dataset):
            def __len__(self):
                return 12

            def __getitem__(self, index):
                read.append(index)
                return np.float32(index)

        images = resumed_training._SeededDataset(Images(), 0)
        sampler = resumed_training._Sampler(images, 2, shuffle=True, drop_last=True, done=4)
        assert len(list(paddle.io.DataLoader(images, batch_sampler=sampler))) == 2 and len(read) == 4


class TestRandomNumbers:
    class Draws(paddle.io.Dataset):
        file_list = ["a"] * 9

        def __len__(self):
            return 9

        def __getitem__(self, index):
            return index, random.random(), np.random.rand()

    @staticmethod
    def index(number, epoch):
        index = resumed_training._Index(number)
        index.epoch = epoch
        return index

    def test_depend_only_on_seed_epoch_and_index(self):
        dataset = resumed_training._SeededDataset(self.Draws(), 7)
        there = [(number, epoch) for epoch in range(3) for number in range(9)]
        drawn = {key: dataset[self.index(*key)] for key in there}
        random.shuffle(there)
        assert all(dataset[self.index(*key)] == drawn[key] for key in there)
        assert len(set(drawn.values())) == 27 and len({values[1] for values in drawn.values()}) == 27
        assert resumed_training._SeededDataset(self.Draws(), 8)[self.index(0, 0)] != drawn[0, 0]

    def test_dataset_can_be_pickled(self):
        dataset, index = pickle.loads(
            pickle.dumps((resumed_training._SeededDataset(self.Draws(), 7), self.index(3, 2)))
        )
        assert (index, index.epoch) == (3, 2) and dataset.file_list == ["a"] * 9 and len(dataset) == 9


class TestFirstStatements:
    def test_are_inserted_before_the_loop_for_one_call(self):
        function = core_train.function()
        code = function.__code__
        with core_train.statements_before_loop(["best_mean_iou = 0.0681", "save_models.extend(['out/iter_2'])"]):
            assert 0.0681 in function.__code__.co_consts and -1.0 in function.__code__.co_consts
            assert function.__code__.co_filename == code.co_filename
            assert function.__code__.co_firstlineno == code.co_firstlineno
        assert function.__code__ is code and 0.0681 not in code.co_consts

    def test_are_needed_here(self):
        assert resumed_training.needed() and small_batches.needed()


class TestProgressFile:
    def test_roundtrip(self, tmp_path):
        assert progress_file.read(str(tmp_path)) is None
        write(tmp_path)
        assert vars(progress_file.read(str(tmp_path))) == PROGRESS

    @pytest.mark.parametrize(
        "key, value",
        [
            *[
                ("begun", "now"),
                ("saved", float("nan")),
                ("saved", 10**400),
                ("seed", -1),
                ("seed", 1.5),
                ("seed", True),
            ],
            *[("average", 1), ("mIoU", 1.5), ("ema_mIoU", []), ("stop_count", None), ("loss_scaling", {"scale": [1]})],
        ],
    )
    def test_invalid_values_are_refused(self, tmp_path, key, value):
        write(tmp_path, **{key: value})
        with pytest.raises(InputError, match=f"progress.json: {key} cannot be"):
            progress_file.read(str(tmp_path))

    @pytest.mark.parametrize("content", [b"", b"[]", b"[" * 10000, b"{" + b" " * 70000 + b"}", b"\xff", b"1" * 5000])
    def test_invalid_json_is_refused(self, tmp_path, content):
        (tmp_path / "progress.json").write_bytes(content)
        with pytest.raises(InputError, match="is not the progress of a training"):
            progress_file.read(str(tmp_path))

    @pytest.mark.parametrize(
        "name, number", [("iter_12", 12), ("a/iter_3/", 3), ("best_model", None), ("iter_²", None)]
    )
    def test_iteration(self, name, number):
        assert progress_file.iteration(name) == number


class TestBest:
    @pytest.fixture
    def out(self, tmp_path):
        write(tmp_path / "iter_4")
        progress_file.write(str(tmp_path / "best_model"), begun=10.5, mIoU=0.5, iteration=2)
        (tmp_path / "best_model/model.pdparams").touch()
        return tmp_path

    def best(self, out, checkpoint="iter_4"):
        found = progress_file.best(str(out), str(out / checkpoint))
        return found and (found.mIoU, found.iteration)

    def test_of_this_training(self, out):
        assert self.best(out) == (0.5, 2)

    def test_checkpoint_is_best_if_killed_before_it_was_copied(self, out):
        write(out / "iter_4", mIoU=0.75)
        assert self.best(out) == (0.75, 4)

    def test_best_model_of_another_training_is_ignored(self, out):
        write(out / "iter_4", begun=9.0)
        assert self.best(out) == (0.25, 4)
        write(out / "iter_4", begun=9.0, mIoU=None)
        assert self.best(out) is None

    def test_folder_without_weights_is_ignored(self, out):
        (out / "best_model/model.pdparams").unlink()
        assert self.best(out) == (0.25, 4)

    def test_other_output_folder_has_no_best_model(self, out, tmp_path):
        assert progress_file.best(str(tmp_path / "elsewhere"), str(out / "iter_4")) is None

    def test_checkpoint_without_progress(self, out):
        (out / "iter_4/progress.json").unlink()
        assert self.best(out) is None


def test_loss_scaling_is_restored(tmp_path):
    """The state of GradScaler, which exists only on a GPU, survives the file."""

    def scaler(state):
        made = paddle.amp.GradScaler()
        made._enable = True
        made.load_state_dict(state)
        return made

    keys = dict.fromkeys(["incr_ratio", "decr_ratio", "incr_every_n_steps", "decr_every_n_nan_or_inf", "decr_count"], 2)
    state = {**keys, "scale": np.float32([4096]), "incr_count": 7, "use_dynamic_loss_scaling": True}
    training = resumed_training._Training(str(tmp_path), None, None, False, 5)
    training._scaler = scaler(state)
    training._write_progress(str(tmp_path / "iter_2"))
    read = progress_file.read(str(tmp_path / "iter_2")).loss_scaling
    assert scaler(read).state_dict() == state


@pytest.mark.parametrize("keep, kept, removed", [(3, 3, [4]), (2, 2, []), (4, 4, []), (5, 4, []), (0, 4, [])])
def test_only_own_checkpoints_are_kept(tmp_path, keep, kept, removed):
    """One more is deleted if a kill prevented it. 3 is of another training, 12 is later than the resumed checkpoint."""
    numbers = (4, 6, 8, 10, 12)
    for number in numbers:
        write(tmp_path / f"iter_{number}")
    write(tmp_path / "iter_3", begun=9.0)
    (tmp_path / "iter_1").mkdir()
    training = resumed_training._Training(str(tmp_path), str(tmp_path / "iter_10"), None, False, keep)
    folders = [str(tmp_path / f"iter_{number}") for number in (4, 6, 8, 10)[-kept:]]
    assert f"save_models.extend({folders})" in training.first_statements()
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {f"iter_{number}" for number in (1, 3, *numbers) if number not in removed}


def test_progress_is_deleted_last(tmp_path, monkeypatch):
    write(tmp_path / "iter_2")
    (tmp_path / "iter_2/model.pdparams").touch()
    (tmp_path / "iter_2/inference").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda folder: None)  # simulates a kill
    resumed_training._remove_checkpoint(str(tmp_path / "iter_2"))
    assert sorted(os.listdir(tmp_path / "iter_2")) == ["inference", "progress.json"]
    monkeypatch.undo()
    for _ in range(2):
        resumed_training._remove_checkpoint(str(tmp_path / "iter_2"))
        assert not (tmp_path / "iter_2").exists()


def test_moved_checkpoint_is_kept(tmp_path):
    """The user moved it and left a link."""
    write(tmp_path / "archive/iter_2")
    (tmp_path / "iter_2").symlink_to("archive/iter_2")
    resumed_training._remove_checkpoint(str(tmp_path / "iter_2"))
    assert os.listdir(tmp_path / "iter_2") == ["progress.json"]


def test_overwritten_checkpoint_keeps_no_other_files(tmp_path):
    folder = tmp_path / "iter_2"
    folder.mkdir()
    for name in ("model.pdparams", "model.pdopt", "ema_model.pdparams"):
        (folder / name).write_text("old")
    saved = []
    training = resumed_training._Training(str(tmp_path), None, None, False, 5)
    training._wrap_save(lambda state, path: saved.append(os.listdir(folder)))({}, str(folder / "model.pdparams"))
    assert saved == [["model.pdparams", "progress.json"]] or saved == [["progress.json", "model.pdparams"]]
    assert json.loads((folder / "progress.json").read_text())["begun"] == training._begun
    shutil.rmtree(folder)


class TestBatchNormOverOneValue:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_affected_batch_norms(self, variant):
        """They are those with inputs [N, C, 1, 1]."""
        seen, network = set(), BiSeNetV1(3, ResNet18_v1b(), variant=variant)
        for name, layer in network.named_sublayers():
            if isinstance(layer, small_batches._BATCH_NORMS):
                layer.register_forward_pre_hook(
                    lambda _, inputs, name=name: seen.add(name) if inputs[0].shape[2:] == [1, 1] else None
                )
        network.eval()
        network(paddle.zeros([1, 3, 64, 64]))
        assert seen and seen == {name for name, _ in small_batches.over_pooled(network)}

    def test_refused_with_trained_weights(self, tmp_path, monkeypatch):
        said, network = [], BiSeNetV1(3, ResNet18_v1b())
        monkeypatch.setattr(small_batches.logger, "warning", said.append)
        small_batches.check_batch_norms(network, 2)
        assert not said
        small_batches.check_batch_norms(network, 1)
        assert len(said) == 1 and "batch_size 2 or more trains them" in said[0]

        name, layer = small_batches.over_pooled(network)[-1]
        before = layer._mean.clone()
        layer._mean.set_value(before + 1)
        sentence = rf"batch_size 1 on each device would spoil .*\(such as {name}\). Give batch_size 2 or more"
        with pytest.raises(InputError, match=sentence):
            small_batches.check_batch_norms(network, 1)
        small_batches.check_batch_norms(network, 2)
        paddle.save(network.state_dict(), str(tmp_path / "iter_2/model.pdparams"))
        layer._mean.set_value(before)
        with pytest.raises(InputError, match=sentence):
            small_batches.check_batch_norms(network, 1, str(tmp_path / "iter_2"))

    def test_sync_batch_norm_on_several_devices_is_accepted(self, monkeypatch):
        network = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(BiSeNetV1(3, ResNet18_v1b()))
        small_batches.over_pooled(network)[0][1]._mean.set_value(paddle.ones([128]))
        with pytest.raises(InputError, match="would spoil"):
            small_batches.check_batch_norms(network, 1)
        monkeypatch.setattr(paddle.distributed, "ParallelEnv", lambda: type("Two", (), {"nranks": 2}))
        small_batches.check_batch_norms(network, 1)


@pytest.mark.parametrize("images, batch, processes", [(3, 4, 1), (5, 4, 2), (1, 2, 2)])
def test_fewer_images_than_one_batch(images, batch, processes, monkeypatch):
    monkeypatch.setattr(paddle.distributed, "ParallelEnv", lambda: type("Some", (), {"nranks": processes}))
    with pytest.raises(InputError, match=f"train_dataset has {images} images, .*lower batch_size"):
        small_batches.check_images(images, batch)
    small_batches.check_images(
        batch * processes - processes + 1, batch
    )  # Paddle repeats images to fill the last batches
