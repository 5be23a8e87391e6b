"""How fast `BiSeNetV1Loss` is beside plain cross-entropy, and how much memory it takes: in turns, a process each.

The loss alone, forward and backward, on logits of 4x19x512x1024; and a whole step of a training.
"""

import ctypes
import multiprocessing
import statistics
import time
from pathlib import Path

from bisenetv1_plugin.machine import memory
from bisenetv1_plugin.progress import Progress, silent

# What a training sees: at first nearly every pixel is hard, later few are.
_SHARES = {"every pixel hard": 1.0, "2 % of the pixels hard": 0.02}
_STEP = "step of the authors' ResNet-18, 2x3x256x512"
CASES = (*_SHARES, _STEP)
LOSSES = ("plain cross-entropy", "BiSeNetV1Loss")


def compare(turns=5, progress: Progress = silent):
    """Measure every case with both losses.

    Args:
        turns (int): how often each one's turn comes.
        progress: see `progress.Progress`.

    Returns:
        dict[tuple[str, str], tuple[float, int]]: by case and loss, the median of the seconds, and the bytes that it
        takes at the most beside what stood before the first step (Linux only).
    """
    context = multiprocessing.get_context("spawn")
    found = {}
    for case in CASES:
        pipes, processes = {}, []
        for loss in LOSSES:
            pipes[loss], theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs, case, loss), daemon=True))
            processes[-1].start()
        extra = {loss: pipe.recv() for loss, pipe in pipes.items()}
        seconds = {loss: [] for loss in LOSSES}
        for _ in progress(range(turns), desc="loss", unit="turn"):
            for loss, pipe in pipes.items():
                time.sleep(0.25)  # idle threads of OpenMP spin for 200 ms
                pipe.send(True)
                seconds[loss].append(pipe.recv())
        for loss, pipe in pipes.items():
            pipe.send(False)
            found[case, loss] = statistics.median(seconds[loss]), extra[loss]
        for process in processes:  # Paddle does not like to be ended
            process.join()
    return found


def _serve(pipe, case, name):
    """In the other process: the memory of the first step, then the seconds of one for every True."""
    import paddle.nn.functional as F

    from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

    if name == LOSSES[1]:
        loss = BiSeNetV1Loss()
    else:
        loss = lambda x, y: F.cross_entropy(x, y.unsqueeze(1), axis=1)  # noqa: E731
    work = _training(loss) if case == _STEP else _loss(loss, _SHARES[case])

    def step():
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    _give_back()
    before = memory("VmRSS")
    _forget_the_peak()
    step()
    pipe.send(memory("VmHWM") - before)
    while pipe.recv():
        pipe.send(step())


def _loss(loss, share, shape=(4, 19, 512, 1024)):
    """Forward and backward of a loss on logits of which this share is hard."""
    import numpy as np
    import paddle

    random = np.random.RandomState(0)
    label = random.randint(0, shape[1], (shape[0], *shape[2:]))
    # One class stands out: the right one in all pixels but the hard ones.
    clear = np.where(random.rand(*label.shape) < share, (label + 1) % shape[1], label)
    scores = random.randn(*shape).astype("float32")
    scores += 9 * (np.arange(shape[1])[:, None, None] == clear[:, None])
    logits = paddle.to_tensor(scores, stop_gradient=False)
    label = paddle.to_tensor(label)
    (logits * 1.0).sum().backward()  # the gradient has its place, and Paddle its threads
    logits.clear_gradient()

    def work():
        loss(logits, label).backward()
        logits.clear_gradient()

    return work


def _training(loss, shape=(2, 3, 256, 512), num_classes=19):
    """A step: forward, the loss of three heads, backward, the optimiser."""
    import paddle

    from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
    from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

    paddle.seed(0)
    model = BiSeNetV1(num_classes, ResNet18_v1b())
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=5e-4)
    image = paddle.uniform(shape, min=-1, max=1)
    label = paddle.randint(0, num_classes, (shape[0], *shape[2:]))

    def work():
        sum(loss(logits, label) for logits in model(image)).backward()
        optimizer.step()
        optimizer.clear_grad()

    return work


def _give_back():
    """To the system, what is free: else a step that finds room in it would take nothing."""
    ctypes.CDLL(None).malloc_trim(0)


def _forget_the_peak():
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
