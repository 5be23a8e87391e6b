"""Trained weights to files for Paddle Inference, as PaddleSeg's tools/export.py does, and on request to ONNX."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import Any, Iterator, Sequence

import paddle
import yaml
from paddleseg.deploy.export import WrappedModel

from bisenetv1_plugin import files
from bisenetv1_plugin.datasets.classes import NamedClasses
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import probe

_OPSET = 13  # has all that the network needs; every ONNX Runtime and OpenVINO of the last years reads it
_ROOM = bytes(1 << 16)  # what must still fit on a disk that is not full


def save(
    model: paddle.nn.Layer,
    save_dir: str,
    transforms: list[dict[str, Any]],
    input_shape: Sequence[int | None] | None = None,
    output_op: str = "argmax",
    to: str = "auto",
    classes: NamedClasses | None = None,
) -> str | None:
    """Write the model's static program, its weights and `deploy.yaml` into `save_dir`.

    Args:
        model (paddle.nn.Layer): in evaluation mode; takes `[N, C, H, W]` float32.
        save_dir (str): the folder; files of an earlier export there are replaced, once the new ones are complete.
        transforms (list[dict]): the validation transforms of the configuration.
        input_shape (sequence[int], optional): `[N, C, H, W]`, None for any. Default: any batch, the network's channels,
            any size.
        output_op (str): 'argmax' (int32 `[N, H, W]`), 'softmax' (`[N, classes, H, W]`) or 'none' (logits).
        to (str): 'onnx' for an ONNX model beside Paddle's files, which `deploy.yaml` then names as well; 'paddle' for
            Paddle's files alone; 'auto' for ONNX where the converter is here and reads this network.
        classes (NamedClasses, optional): the names and colours of the classes, which `deploy.yaml` keeps under keys
            that PaddleSeg's own tools do not read.

    Returns:
        str, optional: why there is no ONNX model, where `to` is 'auto' and there is none.

    Raises:
        InputError: there is no converter to ONNX for this Paddle, or it fails; nothing is written then.
        OSError: the folder cannot be written, or the disk is full; an earlier export there stays whole.
    """
    shape: list[int | None] = list(input_shape or [None, getattr(model, "in_channels", 3), None, None])
    model.eval()
    answer = probe.answer(model, shape)  # an export leaves its model converted
    wrapped = model if output_op == "none" else WrappedModel(model, output_op)
    wrapped.eval()
    static = paddle.jit.to_static(wrapped, input_spec=[paddle.static.InputSpec(shape=list(shape), dtype="float32")])
    with beside(save_dir) as folder:
        paddle.jit.save(static, os.path.join(folder, "model"))
        _check_written(os.path.join(folder, "model.pdiparams"))
        # Paddle 3 writes the program as JSON; a deploy.yaml that names .pdmodel would not be found.
        program = "model.json" if os.path.exists(os.path.join(folder, "model.json")) else "model.pdmodel"
        deploy: dict[str, Any] = {
            "model": program,
            "params": "model.pdiparams",
            "transforms": transforms,
            "input_shape": shape,
            "output_op": output_op,
            "output_dtype": "int32" if output_op == "argmax" else "float32",
        }
        if classes and classes.names:
            deploy["classes"] = list(classes.names)
        if classes and classes.colors:
            deploy["colors"] = [list(color) for color in classes.colors]
        reason = None
        if to != "paddle":
            try:
                converted = _onnx(os.path.join(folder, program), os.path.join(folder, "model.pdiparams"))
            except InputError as error:
                if to == "onnx":
                    raise
                reason = str(error)
            else:
                deploy["onnx"] = "model.onnx"
                with open(os.path.join(folder, "model.onnx"), "wb") as file:
                    file.write(converted)
        probe.save(answer, folder)
        with open(os.path.join(folder, "deploy.yaml"), "w", encoding="utf-8") as yaml_file:
            yaml.safe_dump({"Deploy": deploy}, yaml_file)
        move(folder, save_dir)
    return reason


# All names that `save` and `quantize.save` give.
_NAMES = (
    *("deploy.yaml", "probe.npz", "model.json", "model.pdmodel", "model.pdiparams"),
    *("model.onnx", "model.xml", "model.bin"),
)


def check(save_dir: str, reads: Sequence[str] = ()) -> None:
    """Refuse a folder where an export would replace what is none; to be called before any work.

    Args:
        save_dir (str): the folder.
        reads (sequence[str]): the files that the export is made from.

    Raises:
        InputError: a file of one of an export's names is there, and no `deploy.yaml`; or it is one of `reads`.
        OSError: the folder cannot be looked into.
    """
    files.for_libraries(save_dir)
    targets = [os.path.join(save_dir, name) for name in _NAMES]
    files.check_outputs(targets, reads, lambda path: _is_export(save_dir))


def _is_export(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "deploy.yaml"), encoding="utf-8") as file:
            return any(line.startswith("Deploy:") for line in file)
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def beside(save_dir: str) -> Iterator[str]:
    """A passing folder inside `save_dir`, to write an export into and `move` it from; errors there name `save_dir`."""
    check(save_dir)
    os.makedirs(save_dir, exist_ok=True)
    hidden = os.path.join(os.path.abspath(save_dir), ".export-")
    with files.naming(save_dir, hidden), tempfile.TemporaryDirectory(
        dir=os.path.dirname(hidden), prefix=os.path.basename(hidden)
    ) as folder:
        try:
            yield folder
        except (InputError, OSError):
            raise
        except Exception:
            # On a full disk, libraries in C++ say "iostream error", or choke on what they could not write before.
            with open(os.path.join(folder, "room"), "wb") as file:
                file.write(_ROOM)
            raise


def move(folder: str, save_dir: str) -> None:
    """Put a complete export in its place, or, where that fails, everything back as it was.

    `deploy.yaml`, which names the other files, leaves first and comes last: who is killed in between has none, rather
    than one that names files of two exports.
    """
    names = sorted(os.listdir(folder), key=lambda name: (name == "deploy.yaml", name))
    for name in names:
        _check_written(os.path.join(folder, name))
    earlier = tempfile.mkdtemp(dir=folder)
    moved: list[tuple[str, str]] = []
    try:
        for name in reversed(names):
            target = os.path.join(save_dir, name)
            if os.path.isdir(target):  # nobody's export: not ours to put aside
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            if os.path.lexists(target):
                _rename(target, os.path.join(earlier, name), moved)
        for name in names:
            _rename(os.path.join(folder, name), os.path.join(save_dir, name), moved)
    except BaseException:
        for source, target in reversed(moved):
            os.rename(target, source)
        raise


def _rename(source: str, target: str, moved: list[tuple[str, str]]) -> None:
    os.rename(source, target)
    moved.append((source, target))


def _check_written(path: str) -> None:
    """Raise what libraries swallow: Paddle's writer in C++ cuts a file off where the disk is full, and says nothing.

    A disk that was full is full now, so the file cannot grow.
    """
    whole = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(_ROOM)
        file.flush()
        file.truncate(whole)


def _onnx(program: str, params: str) -> bytes:
    """The ONNX model of a static program."""
    # 1.3.1 reads Paddle 2.6's programs and none of Paddle 3, which 2.1.0 reads; 2.1.0 does not start with Paddle 2.6.
    package = "paddle2onnx==1.3.1" if program.endswith(".pdmodel") else "'paddle2onnx>=2.1.0'"
    cure = f"For Paddle {paddle.__version__}: pip install {package}"
    try:
        import paddle2onnx
    except (ImportError, ValueError) as error:  # ValueError: it was built for another Paddle
        raise InputError(f"An ONNX model needs the converter paddle2onnx ({error}). {cure}.") from error
    try:
        # As bytes: to write the file itself, 2.1.0 lets Polygraphy pip-install what it lacks, and NumPy 2 with it.
        model = paddle2onnx.export(program, params, opset_version=_OPSET, verbose=False)
    except SystemExit:  # its way to say no, after logging why
        model = None
    if not model:  # nothing is what it gives for a program it cannot read
        version = paddle2onnx.__version__
        raise InputError(f"paddle2onnx {version} cannot convert this network, it says why above. {cure}.")
    return model
