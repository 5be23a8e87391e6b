"""How fast `BiSeNetV1Loss` is beside plain cross-entropy, and how much memory it takes: in turns, a process each."""

import multiprocessing
import re
import statistics
import time
from pathlib import Path

# What a training sees: at first nearly every pixel is hard, later few are.
CASES = {"every pixel hard": 1.0, "2 % of the pixels hard": 0.02}
LOSSES = ("plain cross-entropy", "BiSeNetV1Loss")


def compare(turns=5, shape=(4, 19, 512, 1024), progress=iter):
    """Measure forward and backward of both losses.

    Args:
        turns (int): how often each one's turn comes.
        shape (tuple[int]): of the logits, `[N, C, H, W]`.
        progress (callable, optional): wraps the numbers of the turns.

    Returns:
        dict[tuple[str, str], tuple[float, int]]: by case and loss, the median of the seconds, and the bytes that it
        takes at the most beside logits and labels (Linux only).
    """
    context = multiprocessing.get_context("spawn")
    found = {}
    for case, share in CASES.items():
        pipes = {}
        for loss in LOSSES:
            pipes[loss], theirs = context.Pipe()
            context.Process(target=_serve, args=(theirs, loss, share, shape), daemon=True).start()
        memory = {loss: pipe.recv() for loss, pipe in pipes.items()}
        seconds = {loss: [] for loss in LOSSES}
        for _ in progress(range(turns)):
            for loss, pipe in pipes.items():
                time.sleep(0.25)  # idle threads of OpenMP spin for 200 ms
                pipe.send(True)
                seconds[loss].append(pipe.recv())
        for loss, pipe in pipes.items():
            pipe.send(False)
            found[case, loss] = statistics.median(seconds[loss]), memory[loss]
    return found


def _serve(pipe, name, share, shape):
    """In the other process: the memory of the first step, then the seconds of one for every True."""
    import numpy as np
    import paddle
    import paddle.nn.functional as F

    from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

    random = np.random.RandomState(0)
    label = random.randint(0, shape[1], (shape[0], *shape[2:]))
    # One class stands out: the right one in all pixels but the hard ones.
    clear = np.where(random.rand(*label.shape) < share, (label + 1) % shape[1], label)
    scores = random.randn(*shape).astype("float32")
    scores += 9 * (np.arange(shape[1])[:, None, None] == clear[:, None])
    logits = paddle.to_tensor(scores, stop_gradient=False)
    label = paddle.to_tensor(label)
    if name == LOSSES[1]:
        loss = BiSeNetV1Loss()
    else:
        loss = lambda x, y: F.cross_entropy(x, y.unsqueeze(1), axis=1)  # noqa: E731

    def step():
        started = time.perf_counter()
        loss(logits, label).backward()
        logits.clear_gradient()
        return time.perf_counter() - started

    (logits * 1.0).sum().backward()  # the gradient has its place, and Paddle its threads
    logits.clear_gradient()
    before = _memory("VmRSS")
    _forget_the_peak()
    step()
    pipe.send(_memory("VmHWM") - before)
    while pipe.recv():
        pipe.send(step())


def _forget_the_peak():
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _memory(key):
    """Bytes of this process, now (VmRSS) or at the most (VmHWM); of Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) * 1024
