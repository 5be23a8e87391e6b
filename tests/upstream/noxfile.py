"""Runs PaddleSeg's unmodified tools on real images with every supported stack, each in its own environment.

    pip install nox
    PADDLESEG_DIR=~/PaddleSeg CAMVID_DIR=~/camvid nox -f tests/upstream/noxfile.py

PADDLESEG_DIR is a git clone of PaddleSeg with its tags, CAMVID_DIR a CamVid folder written by `bisenetv1 data prepare
camvid`. Each Paddle takes about 20 minutes on one core. The cells are saved in tests/upstream/matrix.json; the last
session writes the tables of docs/stacks.md from them.
"""

import os
from pathlib import Path

import nox

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RESULTS = HERE / "matrix.json"

PADDLES = ("2.6.2", "3.0.0", "3.2.2", "3.3.1")
# Revisions of the clone. 2.8.0 is installed from PyPI, the others run from the checkout. PaddleSeg from 2.9 on imports
# scikit-image, which the wheel on PyPI (2.8.0) does not require, so the sessions install it.
PADDLESEGS = {"2.8.0": "v2.8.0", "2.9.1": "v2.9.1", "develop": "develop"}

nox.options.default_venv_backend = "venv"


@nox.session
@nox.parametrize("paddle", PADDLES)
def stack(session, paddle):
    """One Paddle with every PaddleSeg."""
    session.install(f"paddlepaddle=={paddle}", "paddleseg==2.8.0", "scikit-image", str(REPOSITORY))
    _run(session, f"Paddle {paddle}, PaddleSeg {{}}")


@nox.session(python="3.13")
def newest(session):
    """The newest Paddle, Python, NumPy and OpenCV, installed as in the README, with every PaddleSeg."""
    session.install(f"paddlepaddle=={PADDLES[-1]}", "scikit-image", f"{REPOSITORY}[cpu]")
    session.install("--no-deps", "paddleseg==2.8.0")
    _run(session, f"Paddle {PADDLES[-1]}, PaddleSeg {{}}, Python 3.13")


def _run(session, stack):
    """Run every PaddleSeg in this session's environment. `stack` is a format string for its version."""
    clone, camvid = _folder(session, "PADDLESEG_DIR"), _folder(session, "CAMVID_DIR")
    for name, revision in PADDLESEGS.items():
        checkout = Path(session.create_tmp()).resolve() / name
        _unpack(session, clone, revision, checkout)
        session.run(
            *("python", str(HERE / "matrix.py"), "run", "--paddleseg", str(checkout), "--camvid", str(camvid)),
            *("--stack", stack.format(name), "--results", str(RESULTS)),
            env={"PYTHONPATH": "" if name == "2.8.0" else str(checkout), "OMP_NUM_THREADS": "1"},
        )


@nox.session
def table(session):
    session.install("numpy", "pyyaml", "pillow")
    session.run("python", str(HERE / "matrix.py"), "table", "--results", str(RESULTS))


def _folder(session, variable):
    folder = os.environ.get(variable, "")
    if not os.path.isdir(folder):
        session.error(f"{variable} must name a folder; it is {folder!r}.")
    return Path(folder).resolve()


def _unpack(session, clone, revision, checkout):
    """Unpack the tools and the package of a revision, without changing the clone."""
    checkout.mkdir(parents=True, exist_ok=True)
    archive = checkout / "checkout.tar"
    session.run(
        *("git", "-C", str(clone), "archive", "-o", str(archive), revision, "paddleseg", "tools", "deploy/python"),
        external=True,
    )
    session.run("tar", "-xf", str(archive), "-C", str(checkout), external=True)
