"""Registration through entry points and the start-up hook, in processes of their own."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import bisenetv1_plugin

OURS = {
    "models": {"BiSeNetV1"},
    "backbones": {"ResNet18_v1b", "ResNet34_v1b", "ResNet50_v1b", "ResNet101_v1b"},
    "losses": {"BiSeNetV1Loss"},
    "datasets": {"SyntheticStreetScenes"},
    "transforms": {
        *("CenterPadding", "MMSegRandomCrop", "RandomMirrorSwap"),
        *("CoinCheungColorJitter", "MMSegPhotoMetricDistortion"),
    },
    "optimizers": {"MomentumExpWarmup"},
}

# With the plugin off, zlib must come before Paddle 2.6 by hand; and Paddle 2.6 needs a USER_SITE, which -S leaves out.
LIST_REGISTRIES = """
import site, zlib
site.getusersitepackages()
from paddleseg.cvlibs import manager
REGISTRIES = manager.MODELS, manager.BACKBONES, manager.LOSSES, manager.DATASETS, manager.TRANSFORMS, manager.OPTIMIZERS
for registry in REGISTRIES:
    print(registry.name, *registry.components_dict)
"""


def registries(done):
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {words[0]: set(words[1:]) for words in lines if words[0] in OURS}


def distribution(folder, entry_points, code):
    """A tiny installed distribution: a module and its metadata, found by being on the path."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny_plugin.py").write_text(textwrap.dedent(code))
    metadata = folder / "tiny_plugin-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    return folder


def test_registered_without_an_import_by_the_user(python):
    found = registries(python("-c", LIST_REGISTRIES))
    for registry, names in OURS.items():
        assert names <= found[registry]


@pytest.mark.parametrize(
    "module",
    [
        "models.bisenetv1",
        *(
            pytest.param(module, marks=pytest.mark.very_slow)
            for module in (
                *("backbones.resnet", "losses.ohem", "datasets.synthetic", "optimizers.warmup"),
                *("plugin", "training.builder"),
            )
        ),
    ],
)
@pytest.mark.slow
def test_a_component_imported_before_paddleseg(python, module):
    done = python("-c", f"import bisenetv1_plugin.{module}" + LIST_REGISTRIES)
    assert "was skipped" not in done.stderr and "could not do its part" not in done.stderr
    found = registries(done)
    for registry, names in OURS.items():
        assert names <= found[registry]


def test_names_are_free_in_upstream(python):
    upstream = registries(python("-c", LIST_REGISTRIES, BISENETV1_PLUGIN=0))
    everything = set().union(*upstream.values())
    assert "BiseNetV1" in everything  # upstream's own, with a lower-case s
    assert not everything & set().union(*OURS.values())


def test_workers_of_a_data_loader_and_spawned_processes(python, tmp_path):
    (tmp_path / "spawned.py").write_text(
        textwrap.dedent("""
        import multiprocessing

        def names(queue):
            from paddleseg.cvlibs import manager
            queue.put(sorted(manager.LOSSES.components_dict))

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            process = context.Process(target=names, args=(queue,))
            process.start()
            print(queue.get(timeout=100))
            process.join()
        """)
    )
    done = python("spawned.py")
    assert "BiSeNetV1Loss" in done.stdout, done.stderr


@pytest.mark.slow
def test_without_start_up_files(python, tmp_path):
    """`python -S` runs no .pth file; `python -m bisenetv1_plugin run` is the way then."""
    (tmp_path / "script.py").write_text("import sys\n" + LIST_REGISTRIES + "print('arguments', *sys.argv[1:])\n")
    site_packages = [path for path in sys.path if path.endswith("site-packages")]
    path = ":".join([str(Path(bisenetv1_plugin.__file__).parents[1]), *site_packages])
    plain = python("-S", "script.py", PYTHONPATH=path)
    assert "BiSeNetV1" not in registries(plain)["models"]
    through = python("-S", "-m", "bisenetv1_plugin", "run", "script.py", "--x", "1", PYTHONPATH=path)
    assert OURS["models"] <= registries(through)["models"]
    assert "arguments --x 1" in through.stdout


def test_serves_any_distribution(python, tmp_path):
    tiny = distribution(
        tmp_path / "tiny",
        """
        [paddleseg.transforms]
        TinyTransform = tiny_plugin:TinyTransform
        """,
        """
        class TinyTransform:
            pass
        """,
    )
    assert "TinyTransform" in registries(python("-c", LIST_REGISTRIES, PYTHONPATH=tiny))["transforms"]


@pytest.mark.parametrize(
    "entry_point, code, said",
    [
        ("TinyLoss = tiny_plugin:TinyLoss", "raise ImportError('no such library')", "no such library"),
        pytest.param("TinyLoss = tiny_plugin:Absent", "", "has no attribute 'Absent'", marks=pytest.mark.very_slow),
        ("BiseNetV1 = tiny_plugin:BiseNetV1", "class BiseNetV1: pass", "the name is taken"),
        pytest.param(
            "TinyLoss = tiny_plugin:Other",
            "class Other: pass",
            "PaddleSeg would call it Other",
            marks=pytest.mark.very_slow,
        ),
    ],
)
@pytest.mark.slow
def test_a_bad_component_is_a_warning_that_names_it(python, tmp_path, entry_point, code, said):
    tiny = distribution(tmp_path / "tiny", f"[paddleseg.losses]\n{entry_point}\n", code)
    done = python("-c", LIST_REGISTRIES, PYTHONPATH=tiny)
    found = registries(done)
    for registry, names in OURS.items():
        assert names <= found[registry]
    assert entry_point.split(" =")[0] in done.stderr and said in done.stderr
    assert "TinyLoss" not in found["losses"] and "BiseNetV1" not in found["losses"]


@pytest.mark.slow
def test_registering_again_changes_nothing(python):
    done = python(
        "-W", "error::UserWarning:bisenetv1_plugin", "-c",
        "import paddleseg; from bisenetv1_plugin import plugin; a = plugin.register(); b = plugin.register();"
        "assert a == b and 'BiSeNetV1' in a",
    )  # fmt: skip
    assert done.returncode == 0 and "skipped" not in done.stderr, done.stderr


def test_broken_plugin_never_breaks_the_host(python, tmp_path):
    """Even the loader itself failing is a warning, and PaddleSeg is imported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nimport types\nbroken = types.ModuleType('bisenetv1_plugin.plugin')\n"
        "sys.modules['bisenetv1_plugin.plugin'] = broken\n"
    )
    done = python("-c", "import paddleseg; print('fine')", PYTHONPATH=tmp_path)
    assert "fine" in done.stdout
    assert "bisenetv1-plugin could not do its part at `import paddleseg`" in done.stderr


@pytest.mark.parametrize("slots", ['__slots__ = ("_loader",)', ""])
def test_a_loader_that_takes_no_attributes(python, tmp_path, slots):
    """Somebody else's, behind another finder; afterwards the module knows its own loader, and registers once."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import importlib.machinery, sys

        class Loader:
            {slots or "pass"}

            def __init__(self, loader):
                self._loader = loader

            def create_module(self, spec):
                return None

            def exec_module(self, module):
                self._loader.exec_module(module)

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "paddleseg":
                    spec = importlib.machinery.PathFinder.find_spec(name, path, target)
                    spec.loader = Loader(spec.loader)
                    return spec

        sys.meta_path.insert(sys.meta_path.index(importlib.machinery.PathFinder), Finder())  # behind the hook
        """)
    )
    code = "\nimport paddleseg; print(*{type(l).__name__ for l in (paddleseg.__loader__, paddleseg.__spec__.loader)})"
    done = python("-c", LIST_REGISTRIES + code, PYTHONPATH=tmp_path)
    found = registries(done)
    for registry, names in OURS.items():
        assert names <= found[registry]
    assert done.stdout.splitlines()[-1] == "Loader" and "could not do its part" not in done.stderr


def test_importing_the_package_is_free(python):
    done = python(
        "-c", "import sys, bisenetv1_plugin; print([m for m in ('paddle', 'numpy', 'cv2') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]"


def test_the_hook_only_waits(python):
    """At start-up nothing but the hook's own module is loaded, once, and nothing of importlib.metadata."""
    code = (
        "import sys; print(sum(getattr(f, '__name__', '') == 'bisenetv1_plugin' for f in sys.meta_path),"
        "sorted(m for m in sys.modules if m.startswith('bisenetv1') or m == 'importlib.metadata'))"
    )
    assert python("-c", code).stdout.strip() == "1 ['bisenetv1_plugin']"
    assert python("-c", code, BISENETV1_PLUGIN=0).stdout.startswith("0 ")


def test_upstream_import_errors_are_not_swallowed(tmp_path):
    """Where PaddleSeg itself fails to import, its own error comes out."""
    (tmp_path / "paddleseg").mkdir()
    (tmp_path / "paddleseg" / "__init__.py").write_text("raise RuntimeError('upstream is broken')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import paddleseg"], cwd=tmp_path, text=True, capture_output=True, timeout=100
    )
    assert done.returncode != 0 and "RuntimeError: upstream is broken" in done.stderr


class TestWhatIsLogged:
    """Without the command line: in PaddleSeg's own tools, and from Python."""

    SAID = "weights.logger.info('an account'); weights.logger.warning('a doubt')"

    def test_paddleseg_tells_it(self, python):
        """As it tells its own, whatever the type of its logger; and only once."""
        done = python("-c", f"import paddleseg; from bisenetv1_plugin import weights; {self.SAID}")
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "an account" in line or "a doubt" in line]
        assert [re.sub(r"^[\d: -]+", "", line) for line in lines] == ["[INFO]\tan account", "[WARNING]\ta doubt"], lines

    def test_a_handler_of_the_user_s_own_has_it_alone(self, python):
        own = "import logging; logging.getLogger('bisenetv1_plugin').addHandler(logging.StreamHandler())"
        done = python("-c", f"{own}; import paddleseg; from bisenetv1_plugin import weights; {self.SAID}")
        assert "a doubt" in done.stderr.splitlines() and "a doubt" not in done.stdout, done.stdout + done.stderr
