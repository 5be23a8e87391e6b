"""The output and the log of a command. Nothing important is lost on a full disk, or when Python or C++ crashes."""

import errno
import json
import logging
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest

from bisenetv1_plugin.cli import main, progress, terminal
from bisenetv1_plugin.cli.log import Log
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.evaluation import benchmark


def text(path):
    return path.read_text(encoding="utf-8")


def live(path):
    log = Log(path)
    log.live = True
    return log


class TestLog:
    def test_waits_for_the_folder(self, tmp_path):
        log = live(tmp_path / "out" / "train.log")
        log.write("before\n")
        assert not (tmp_path / "out").exists()
        (tmp_path / "out").mkdir()
        log.write("after\n")
        lines = text(log.path).splitlines()
        assert lines[0].startswith("=== ") and lines[1:] == ["before", "after"], "there before the command ends"
        log.finish(keep=False)
        assert log.is_written

    def test_a_later_run_is_appended(self, tmp_path):
        for word in ("first\n", "second\n"):
            log = live(tmp_path / "train.log")
            log.write(word)
            log.finish(keep=True)
        assert [line for line in text(tmp_path / "train.log").splitlines() if line[:3] != "==="] == ["first", "second"]

    @pytest.mark.parametrize("keep", [True, False])
    def test_short_command_writes_at_its_end_unless_refused(self, tmp_path, keep):
        log = Log(tmp_path / "export.log")
        log.write("a line\n")
        assert not log.path.exists()
        log.finish(keep)
        assert log.path.exists() == log.is_written == keep

    @pytest.mark.parametrize("before", ["", "=== an earlier run\n"])
    def test_on_a_full_disk_there_is_no_half_line(self, tmp_path, monkeypatch, before):
        path = tmp_path / "train.log"
        if before:
            path.write_text(before)
        write, room = os.write, [20, 0]

        def full(file, content):
            size = room.pop(0)
            if not size:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, content[:size])

        monkeypatch.setattr(os, "write", full)
        log = live(path)
        log.write("a line that is longer than what fits\n")
        assert f"{path}: no space left on the device; make room there" in log.fault and not log.is_written
        assert (text(path) if before else path.exists()) == (before or False)
        log.write("never\n")
        log.finish(keep=True)

    def test_in_a_folder_of_somebody_else(self, tmp_path, monkeypatch):
        def refuse(path, *_):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(os, "open", refuse)
        log = live(tmp_path / "train.log")
        log.write("a line\n")
        assert "permission denied" in log.fault and log.held.endswith("a line\n")


def command(monkeypatch, run, *flags, name="export"):
    """Make a command do something else."""
    monkeypatch.setattr(f"bisenetv1_plugin.cli.{name}.run", run)
    return main([name, "--config", "c", "--model_path", "w", *flags])


class TestSession:
    def test_screen_and_log(self, tmp_path, monkeypatch, capfd):
        """Of Python and C++, of this package and of others, on both descriptors."""

        def run(args):
            terminal.load_paddle()
            from paddleseg.utils import logger

            from bisenetv1_plugin import plugin
            from bisenetv1_plugin.training import checkpoints

            logger.info("config to build model")
            logger.warning("no weights are loaded")
            logger.warning("Add the `in_channels` ... We suggest you manually set `in_channels` in model config.")
            checkpoints.newest(str(tmp_path / "none"))
            warnings.warn("deprecated", UserWarning, stacklevel=1)
            plugin.logger.warning("a component was skipped")
            with terminal.quiet():
                print("library")
                print("library's error stream", file=sys.stderr)
                os.write(1, b"C++\n")
                os.write(2, b"glog\n")
                terminal.say("a validation")
            print("the result")

        level = logging.getLogger().level
        show = warnings.showwarning
        assert command(monkeypatch, run, "--save_dir", str(tmp_path)) == 0
        out, err = capfd.readouterr()
        assert out.splitlines() == [
            f"There is no complete checkpoint in {tmp_path / 'none'}: starting from the beginning.",
            "C++",
            "a validation",
            "the result",
            f"The log is in {tmp_path / 'export.log'}",
        ]
        shown = ["bisenetv1: no weights are loaded", "bisenetv1: a component was skipped", "glog"]
        assert err.splitlines() == shown
        log = text(tmp_path / "export.log")
        hidden = ["[INFO]\tconfig to build model", "UserWarning: deprecated", "library", "library's error stream"]
        for line in [*hidden, "We suggest", "no weights are loaded", "a validation", "starting from the beginning"]:
            assert line in log
        assert logging.getLogger().level == level and warnings.showwarning is show
        from paddleseg.utils import logger

        logger.info("after it")
        assert "after it" in capfd.readouterr().out, "an end leaves PaddleSeg's logger as it was"

    def test_verbose_hides_nothing(self, tmp_path, monkeypatch, capfd):
        def run(args):
            terminal.load_paddle()
            from paddleseg.utils import logger

            logger.info("config to build model")
            with terminal.quiet():
                print("library")

        assert command(monkeypatch, run, "--save_dir", str(tmp_path), "--verbose") == 0
        out = capfd.readouterr().out
        assert "config to build model" in out and "library" in out
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "name, log", [("train", True), ("infer", True), ("val", False), ("app", False), ("serve", False)]
    )
    def test_help_of_verbose_mentions_the_log_of_commands_with_one(self, capsys, name, log):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert ("write no log" in " ".join(capsys.readouterr().out.split())) == log

    @pytest.mark.parametrize("rank, shown", [("0", True), ("1", False)])
    def test_only_the_first_process_prints(self, tmp_path, monkeypatch, capfd, rank, shown):
        monkeypatch.setenv("PADDLE_TRAINER_ID", rank)
        assert command(monkeypatch, lambda _: terminal.say("result"), "--save_dir", str(tmp_path)) == 0
        assert ("result" in capfd.readouterr().out) == shown == (tmp_path / "export.log").exists()

    def test_a_refusal_is_one_sentence_and_leaves_nothing(self, tmp_path, monkeypatch, capfd):
        def run(args):
            with terminal.quiet():
                print("library")
                raise InputError("the file is no good.")

        assert command(monkeypatch, run, "--save_dir", str(tmp_path)) == 2
        out, err = capfd.readouterr()
        assert (out, err) == ("", "bisenetv1: the file is no good.\n") and not list(tmp_path.iterdir())

    @pytest.mark.parametrize("save_dir", [".", "absent"])
    def test_traceback_and_earlier_output(self, tmp_path, monkeypatch, capfd, save_dir):
        """They go into the log; for a command without a folder, to the screen with Python's traceback."""

        def run(args):
            with terminal.quiet():
                print("before it")
                raise RuntimeError("a defect")

        with pytest.raises(RuntimeError, match="a defect"):
            command(monkeypatch, run, "--save_dir", str(tmp_path / save_dir))
        err = capfd.readouterr().err
        kept = text(tmp_path / "export.log") if save_dir == "." else err
        assert "before it" in kept and ("RuntimeError: a defect" in kept) == (save_dir == ".")
        assert ("The log is in" in err) == (save_dir == ".")

    @pytest.mark.parametrize(
        "error, shown", [(RuntimeError("a defect"), True), (OSError(errno.ENOSPC, "full", "file"), False)]
    )
    def test_an_error_in_a_thread(self, tmp_path, monkeypatch, capfd, error, shown):
        """It is shown, unless the waiting code reports it, as TensorBoard's writer does for a full disk."""

        def fail():
            raise error

        monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # not pytest's

        def run(args):
            with terminal.quiet():
                thread = threading.Thread(target=fail)
                thread.start()
                thread.join()

        assert command(monkeypatch, run, "--save_dir", str(tmp_path)) == 0
        assert (type(error).__name__ in capfd.readouterr().err) == shown
        assert shown or "OSError" in text(tmp_path / "export.log")

    def test_unwritable_log_does_not_fail_the_command(self, tmp_path, monkeypatch, capfd):
        def run(args):
            with terminal.quiet():
                print("library")

        (tmp_path / "export.log").mkdir()
        assert command(monkeypatch, run, "--save_dir", str(tmp_path)) == 0
        assert "bisenetv1: the log is incomplete. " in capfd.readouterr().err

    def test_a_warning_for_every_tensor(self, monkeypatch, capfd):
        def run(args):
            terminal.load_paddle()
            from paddleseg.utils import logger

            for number in range(100):
                logger.warning(f"tensor {number} is not in pretrained model")

        assert command(monkeypatch, run) == 0
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 11 and "there are more warnings" in lines[-1]

    def test_a_later_paddleseg_logs_with_logging(self, tmp_path, capfd):
        """As develop does."""
        name = "bisenetv1_test"
        logger = logging.getLogger(name)
        logger.propagate = False
        own = logging.StreamHandler(sys.stdout)
        logger.addHandler(own)
        logger.setLevel(logging.DEBUG)
        session = terminal._Session(Log(None))
        terminal._capture_paddleseg(SimpleNamespace(logger_initialized={name: True}), session)
        logger.info("config")
        logger.warning("mind this")
        out, err = capfd.readouterr()
        assert (out, err) == ("", "bisenetv1: mind this\n")
        assert "[INFO]\tconfig\n" in session.log.held and "[WARNING]\tmind this\n" in session.log.held
        session.close()
        assert logger.handlers == [own]


DRIVER = """
import os, sys
from bisenetv1_plugin.cli import export, main, terminal

def run(args):
    terminal.load_paddle()
    with terminal.quiet():
        print("hidden")
        os.abort()

export.run = run
main(["export", "--config", "c", "--model_path", "w", "--save_dir", "."])
"""


@pytest.mark.slow
def test_message_of_an_abort_in_cpp_is_shown(python):
    done = python("-c", DRIVER)
    said = done.stdout + done.stderr
    assert done.returncode < 0 and "Process abort signal` is detected" in said and "hidden" not in said


@pytest.mark.slow
def test_an_import_changes_nothing(python):
    code = "import os, warnings; before = warnings.showwarning; from bisenetv1_plugin import cli, training; "
    done = python("-c", code + "print(before is warnings.showwarning, os.environ.get('GLOG_minloglevel'))")
    assert done.stdout.splitlines()[-1] == "True None"


class TestProgress:
    @pytest.mark.slow
    def test_a_bar_on_a_terminal(self, tmp_path, in_a_terminal):
        done = in_a_terminal(tmp_path, "data", "scenes", "out", "--train", 3, "--val", 1, "--size", 64, 32)
        assert done.returncode == 0 and "\rscenes: 100%" in done.said and done.said.count("\n") == 2, done.said

    def test_short_work_prints_no_line(self, tmp_path, capfd):
        assert main(["data", "scenes", str(tmp_path / "out"), "--train", "3", "--val", "1", "--size", "64", "32"]) == 0
        out, err = capfd.readouterr()
        assert err == "" and out.count("\n") == 1

    def test_a_line_a_minute_elsewhere(self, monkeypatch, capfd):
        now = [0.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        bar = progress.bar(total=100, desc="infer", unit="image")
        for _ in range(100):
            now[0] += 5
            bar.update()
            bar.set_postfix(loss="0.5", refresh=False)
        bar.close()
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 8 and lines[0].startswith("infer: 12/100 images, ") and lines[0].endswith("loss=0.5")
        assert "07:20 left" in lines[0]

    def test_printed_line_adds_no_progress_line(self, capfd):
        bar = progress.bar(total=4, desc="train", unit="iteration")
        bar.update()
        terminal.say("Validation at 1")
        terminal.warn("mind this")
        bar.close()
        assert capfd.readouterr() == ("Validation at 1\n", "bisenetv1: mind this\n")

    def test_iterates_over_the_items(self, capfd):
        assert list(progress.bar(iter("abc"), desc="x", unit="y")) == ["a", "b", "c"]
        assert capfd.readouterr().err == ""

    def test_bar_in_a_quiet_block(self, tmp_path, monkeypatch, capfd):
        monkeypatch.setattr(progress, "MINUTE", 0)

        def run(args):
            with terminal.quiet():
                for _ in progress.bar(range(2), desc="verify", unit="image"):
                    pass

        assert command(monkeypatch, run) == 0
        assert "verify: 1/2 images" in capfd.readouterr().err


@pytest.mark.parametrize("action", ["config", "prepare", "check", "scenes"])
def test_help_of_data(capsys, action):
    """Each action has a description, between the usage and the arguments."""
    with pytest.raises(SystemExit):
        main(["data", action, "--help"])
    assert capsys.readouterr().out.split("\n\n")[1].endswith(".")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["trian"], "bisenetv1: there is no command trian; did you mean train?"),
        (["xyzzy"], "bisenetv1: there is no command xyzzy."),
        (["data", "chek", "a.yml"], "bisenetv1 data: there is no command chek; did you mean check?"),
        (["train", "--confg", "a.yml"], "bisenetv1 train: there is no flag --confg; did you mean --config?"),
        (["train", "--config=a.yml", "--do_evl"], "bisenetv1 train: there is no flag --do_evl; did you mean --do_eval"),
        (["train", "--conf", "a.yml", "stray"], "bisenetv1 train: unrecognized arguments: stray"),
        (["train"], "bisenetv1 train: the following arguments are required: --config"),
        (["infer", "--config", "a", "--image_path", "b", "--backend", "c"], "bisenetv1 infer: argument --backend: inv"),
    ],
)
def test_unknown_word(capsys, words, sentence):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and lines[0].startswith(sentence) and len(lines) == 2
    assert lines[1].startswith("See `bisenetv1") and lines[1].endswith("--help`.")


def test_without_a_command_there_is_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and out == "" and "quantize" in err and "usage: bisenetv1" in err


def test_json_without_numbers(tmp_path):
    import numpy as np

    from bisenetv1_plugin.cli import results

    content = {"iou": [np.float32(0.5), float("nan")], "counts": {1: np.int64(2)}, "none": None}
    results.write(tmp_path / "a.json", content)
    assert json.loads(text(tmp_path / "a.json")) == {"iou": [0.5, None], "counts": {"1": 2}, "none": None}


@pytest.mark.parametrize("path", [".", "file/under.json"])
def test_json_that_cannot_be_written_is_refused_before_the_work(tmp_path, path):
    from bisenetv1_plugin.cli import results

    (tmp_path / "file").write_text("")
    results.check(None, "images")
    results.check(str(tmp_path / "new" / "folder" / "a.json"), "images")
    with pytest.raises(InputError, match="file cannot be written there"):
        results.check(str(tmp_path / path), "images")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_on_a_full_disk(tmp_path):
    """One sentence, and the process ends."""
    pytest.importorskip("tensorboard")
    from bisenetv1_plugin import files
    from bisenetv1_plugin.training import watch

    def limited(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    writer = watch._TensorBoard(str(tmp_path))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limited(300)
    try:
        with pytest.raises(OSError) as caught:
            for step in range(1000):
                writer.add_scalar("Train/loss", 1.0, step)
    finally:
        limited(unlimited)
    assert f"{tmp_path}: the file is larger than is allowed here" in files.refusal(caught.value)


@pytest.mark.parametrize("name", ["train", "val"])
def test_ctrl_c_is_one_sentence(tmp_path, monkeypatch, capfd, name):
    def run(args):
        terminal.load_paddle()
        with terminal.quiet():
            print("hidden")
        raise KeyboardInterrupt

    monkeypatch.setattr(f"bisenetv1_plugin.cli.{name}.run", run)
    weights = [] if name == "train" else ["--model_path", "m.pdparams"]
    where = ["--save_dir", str(tmp_path / "none")] if name == "train" else []
    assert main([name, "--config", "c.yml", *weights, *where]) == 130
    out, err = capfd.readouterr()
    assert err.startswith("bisenetv1: stopped") and err.count("\n") == 1 and "hidden" not in out
    assert ("--resume_model latest" in err) == (name == "train")


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
@pytest.mark.slow
def test_sigterm_ends_a_training_as_ctrl_c_does(python, tmp_path):
    """Paddle's own handler would print a traceback of C++."""
    (tmp_path / "stopped.py").write_text(
        "import os, signal, time\n"
        "from bisenetv1_plugin import cli\n"
        "from bisenetv1_plugin.cli import terminal\n"
        "load = terminal.load_paddle\n"
        "def stop(device):\n"
        "    load(device)\n"
        "    signal.signal(signal.SIGCHLD, lambda *_: 1 / 0)  # as Paddle's, of its workers\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(9)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)  # impatient\n"
        "        os.kill(os.getpid(), signal.SIGCHLD)\n"
        "        open('whole', 'w').close()\n"
        "terminal.load_paddle = stop\n"
        "raise SystemExit(cli.main(['train', '--config', 'c.yml', '--save_dir', 'none']))\n"
    )
    done = python("stopped.py")
    assert done.returncode == 143 and done.stderr.startswith("bisenetv1: stopped; add --resume_model latest")
    assert done.stderr.count("\n") == 1 and not done.stdout and (tmp_path / "whole").exists()


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
def test_lost_sigterm_can_be_repeated(python):
    """An exception in a `__del__` is lost, and with it the first SIGTERM."""
    code = """
import os, signal
from bisenetv1_plugin.cli import terminal

def send():
    os.kill(os.getpid(), signal.SIGTERM)

class Loader:
    def __del__(self):
        send()

with terminal.until_sigterm():
    Loader()
    send()
    print("several at once are one")
    terminal._REPEATED = 0
    try:
        send()
    except terminal.Terminated:
        print("again")
    terminal._REPEATED = 10
send()
print("also after the block", flush=True)
terminal._REPEATED = 0
send()
"""
    done = python("-c", code)
    assert done.stdout.splitlines() == ["several at once are one", "again", "also after the block"], done.stderr
    assert done.returncode == -signal.SIGTERM

    code = "from bisenetv1_plugin.cli.terminal import until_sigterm\nwith until_sigterm(): pass\n"
    done = python("-c", code + "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)")
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["train", "--config", "c.yml", flag, "0"]
            for flag in (
                *("--iters", "--batch_size", "--save_interval", "--log_iters"),
                *("--keep_checkpoint_max", "--early_stop_intervals", "--repeats"),
            )
        ),
        *(
            ["infer", "--config", "d", "--image_path", "i.png", flag, "-1"]
            for flag in ("--cpu_threads", "--batch_size")
        ),
        *(["benchmark", "absent", flag, "0"] for flag in ("--batch_sizes", "--cpu_threads", "--turns")),
        *(["quantize", "--config", "c", "--model_path", "w", flag, "0"] for flag in ("--batch_nums", "--batch_size")),
        ["demo", "--data", "absent", "--iters", "0"],
        ["val", "--config", "c", "--model_path", "w", "--is_slide", "--crop_size", "0", "9", "--stride", "9", "9"],
        ["data", "scenes", "absent", "--size", "64", "-1"],
    ],
)
def test_invalid_number(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and re.search("whole number (of at least|from) 1 ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("picture", "sentence"), [("out.foo", "it is written as a PNG"), ("absent/../c.yml/x.png", "the file cannot")]
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, picture, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text("")
    assert main(["verify", "c.yml", "m.pdparams", "exported", "--picture", picture]) == 2
    err = capsys.readouterr().err
    assert f"--picture {picture}" in err and sentence in err
    assert main(["benchmark", "loss", "--picture", picture]) == 2
    assert sentence in capsys.readouterr().err


def test_broken_pipe_of_a_library_is_reported(monkeypatch):
    """Only a broken stdout or stderr is."""

    def run(args):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        command(monkeypatch, run)


def test_benchmark_with_a_killed_process():
    """Between two turns, as by the out-of-memory killer."""
    process = object.__new__(benchmark._Process)
    process._measurement = benchmark.Measurement("a case", [1.0])
    process._pipe, theirs = multiprocessing.Pipe()
    theirs.close()
    process.turn(1)
    assert process._measurement.fault == "its process ended"


def test_benchmark_hides_what_libraries_print(monkeypatch, capsys):
    class Noisy:
        def begin(self):
            print("PLEASE USE OMP_NUM_THREADS WISELY.", file=sys.stderr)
            raise InputError("no")

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which it replaces
    sent = []
    benchmark._serve(SimpleNamespace(send=sent.append), Noisy())
    assert sent == [(0.0, "no")] and capsys.readouterr().err == ""


def test_the_benchmark_of_the_loss_writes_json(tmp_path, monkeypatch, capsys):
    def measure(cases, *_, **__):
        return [benchmark.Measurement(case, [1000 + 100 * n], memory=100 + 20 * n) for n, case in enumerate(cases)]

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(benchmark, "LOSS_CASES", ["hard"])
    assert main(["benchmark", "loss", "--json", str(tmp_path / "loss.json")]) == 0
    rows = json.loads(text(tmp_path / "loss.json"))
    assert rows[1] == {"what": "hard", "loss": "BiSeNetV1Loss", "seconds": 1.1, "bytes": 120}
    assert "| 1.10 | 1.20 |" in capsys.readouterr().out
    assert main(["benchmark", "loss", "--picture", str(tmp_path / "loss.png")]) == 2
    assert "draws runtimes, not the loss" in capsys.readouterr().err
