"""What the distribution holds, installed in environments of their own."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"
DATA = {"bisenetv1_plugin/py.typed", "bisenetv1_plugin/datasets/own/recipe.yml"}  # what the package reads, but modules

STARTUP_LINES = {
    "bisenetv1_plugin.pth": "import bisenetv1_plugin; bisenetv1_plugin.install()\n",
    "bisenetv1_plugin.start": "bisenetv1_plugin:install\n",
}
WAITING = "import sys; print(any(getattr(f, '__name__', '') == 'bisenetv1_plugin' for f in sys.meta_path))"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (REPOSITORY / "setup.py").is_file(), reason="not in a checkout")]


def run(*command, cwd=None):
    done = subprocess.run([str(word) for word in command], cwd=cwd, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A wheel and an sdist, built from a copy of what git would commit."""
    source = tmp_path_factory.mktemp("source")
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=REPOSITORY).split("\n")
    for name in filter(None, files):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    run(sys.executable, "-m", "build", "--outdir", source / "dist", source)
    return source / "dist"


@pytest.fixture
def environment(tmp_path):
    """An empty virtual environment; returns its Python and its site-packages."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    return python, Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def test_wheel(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name, line in STARTUP_LINES.items():
            assert archive.read(name).decode() == line
            assert any(entry.startswith(f"{name},sha256=") for entry in _record(archive))
    configs = {f"bisenetv1_plugin/configs/{path.relative_to(CONFIGS)}" for path in CONFIGS.rglob("*.yml")}
    assert configs | DATA <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "bisenetv1_plugin",
        f"bisenetv1_plugin-{wheel.name.split('-')[1]}.dist-info",
        *STARTUP_LINES,
    }
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names}


def _record(archive):
    (record,) = [name for name in archive.namelist() if name.endswith("RECORD")]
    return archive.read(record).decode().splitlines()


def test_sdist_builds_the_same_wheel(dist, tmp_path):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "setup.py",
        "LICENSE",
        "NOTICE",
        "README.md",
        "README_CN.md",
        "CHANGELOG.md",
        "docs/design.md",
        *DATA,
    } <= names
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, sdist)
    (wheel,), (again,) = dist.glob("*.whl"), tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as a, zipfile.ZipFile(again) as b:
        assert sorted(a.namelist()) == sorted(b.namelist())


def test_metadata_is_ready_for_an_index(dist):
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())


@pytest.fixture(scope="module")
def requirements(dist):
    """The packages that an environment of a Python asks for with these extras: name -> specifier."""
    (wheel,) = dist.glob("*.whl")
    (found,) = metadata.distributions(path=[str(wheel)])
    parsed = [Requirement(text) for text in found.requires]

    def run(python, *extras):
        environments = [{"python_version": python, "extra": extra} for extra in ("", *extras)]
        asked = {}
        for one in parsed:
            if not one.marker or any(map(one.marker.evaluate, environments)):
                asked[one.name] = asked.get(one.name, SpecifierSet()) & one.specifier
        return asked

    return run


PYTHONS = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("python", PYTHONS)
def test_running_an_export_requires_no_paddle(requirements, python):
    for extras in ((), ("deploy",), ("deploy", "app"), ("video",)):
        asked = requirements(python, *extras)
        assert not [name for name in asked if "paddle" in name]
        assert "1.21.6" in asked["numpy"] and "2.5.5" in asked["numpy"]
        assert "4.5.1.48" in asked["opencv-python"] and "5.0.0.93" in asked["opencv-python"]
    assert {"onnxruntime", "openvino", "onnx", "av"} <= set(requirements(python, "deploy"))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra, paddle", [("cpu", "paddlepaddle"), ("gpu", "paddlepaddle-gpu")])
def test_training_requirements_exist_for_each_python(requirements, python, extra, paddle):
    asked = requirements(python, extra, "deploy", "quantize", "convert", "tensorboard", "coco", "test")
    assert "2.6.2" in asked[paddle] and "3.3.1" in asked[paddle]
    assert not [name for name in asked if name.startswith("opencv") and name != "opencv-python"]
    if PYTHONS.index(python) < PYTHONS.index("3.13"):
        assert "2.8.0" in asked["paddleseg"] and "2.0.0" not in asked["numpy"]
        assert list(asked["paddle2onnx"].filter(["0.9.2", "1.3.1", "2.1.0"])) == ["1.3.1", "2.1.0"]
    else:  # NumPy 1, which paddleseg's opencv-python needs, has no wheel, and paddle2onnx neither
        assert not {"paddleseg", "paddle2onnx"} & set(asked) and "2.5.5" in asked["numpy"]
        assert {"visualdl", "scipy", "scikit-learn", "requests", "six"} <= set(asked)  # that paddleseg imports


def test_newer_pythons_are_allowed(dist):
    (wheel,) = dist.glob("*.whl")
    (found,) = metadata.distributions(path=[str(wheel)])
    assert found.metadata["Requires-Python"] == ">=3.8"


@pytest.mark.parametrize(
    "kind", ["wheel", *(pytest.param(kind, marks=pytest.mark.very_slow) for kind in ("sdist", "editable"))]
)
def test_installs_and_uninstalls_cleanly(dist, environment, kind, tmp_path):
    python, site_packages = environment
    before = sorted(site_packages.iterdir())
    if kind == "editable":
        with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
            archive.extractall(tmp_path)
        what = ["-e", next(tmp_path.glob("bisenetv1_plugin-*"))]
    else:
        what = [next(dist.glob("*.whl" if kind == "wheel" else "*.tar.gz"))]
    run(python, "-m", "pip", "install", "--no-deps", *what)
    assert run(python, "-c", WAITING).strip() == "True"
    assert "bisenetv1_camvid_480x360" in run(python, "-m", "bisenetv1_plugin", "configs")
    assert "bisenetv1_camvid_480x360" in run(python.with_name("bisenetv1"), "configs")
    run(python, "-m", "pip", "uninstall", "-y", "bisenetv1-plugin")
    assert sorted(path for path in site_packages.iterdir() if path.name != "__pycache__") == before
    assert run(python, "-c", WAITING).strip() == "False"
