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


def fake_paddleseg(folder):
    """An empty package, where only the hook is tested: PaddleSeg itself takes seconds."""
    (folder / "paddleseg").mkdir()
    (folder / "paddleseg" / "__init__.py").touch()


PLAIN_IMPORT = """
from bisenetv1_plugin import plugin, weights
a = plugin.register(); b = plugin.register()
assert a == b and 'BiSeNetV1' in a
weights.logger.info('an account'); weights.logger.warning('a doubt')
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A process that imports PaddleSeg, and nothing of this package before it."""
    words = [sys.executable, "-W", "error::UserWarning:bisenetv1_plugin", "-c", LIST_REGISTRIES + PLAIN_IMPORT]
    return subprocess.run(words, cwd=tmp_path_factory.mktemp("a"), text=True, capture_output=True, timeout=300)


class TestPlainImport:
    def test_registers_every_component(self, done):
        found = registries(done)
        for registry, names in OURS.items():
            assert names <= found[registry]

    def test_registering_again_changes_nothing(self, done):
        assert done.returncode == 0 and "skipped" not in done.stderr, done.stderr

    def test_paddleseg_logs_our_messages(self, done):
        """In its own format, whatever the type of its logger; and only once."""
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "an account" in line or "a doubt" in line]
        assert [re.sub(r"^[\d: -]+", "", line) for line in lines] == ["[INFO]\tan account", "[WARNING]\ta doubt"], lines


def test_own_handler_replaces_paddlesegs(python, tmp_path):
    """A user's handler for this package's logger, added before PaddleSeg is imported."""
    fake_paddleseg(tmp_path)
    code = "import logging; ours = logging.getLogger('bisenetv1_plugin'); ours.addHandler(logging.StreamHandler());"
    done = python("-c", code + "import paddleseg; ours.warning('a doubt')", BISENETV1_PLUGIN_COMPAT=0)
    assert (done.stdout, done.stderr.splitlines()[-1:]) == ("", ["a doubt"])


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
    code = "print(*(getattr(finder, '__name__', '') for finder in sys.meta_path))\n"
    (tmp_path / "hook.py").write_text("import sys\n" + code)
    (tmp_path / "script.py").write_text("import sys\n" + LIST_REGISTRIES + "print('arguments', *sys.argv[1:])\n")
    site_packages = [path for path in sys.path if path.endswith("site-packages")]
    path = ":".join([str(Path(bisenetv1_plugin.__file__).parents[1]), *site_packages])
    plain = python("-S", "hook.py", PYTHONPATH=path)
    assert plain.returncode == 0 and "bisenetv1_plugin" not in plain.stdout
    assert "bisenetv1_plugin" in python("hook.py", PYTHONPATH=path).stdout.split()
    through = python("-S", "-m", "bisenetv1_plugin", "run", "script.py", "--x", "1", PYTHONPATH=path)
    assert OURS["models"] <= registries(through)["models"]
    assert "arguments --x 1" in through.stdout


@pytest.mark.slow
def test_other_distribution(python, tmp_path):
    """Its component is registered. A bad one is a warning that names it, and hurts no other."""
    bad = {
        "BrokenLoss": ("broken_plugin:BrokenLoss", "no such library"),
        "AbsentLoss": ("tiny_plugin:Absent", "has no attribute 'Absent'"),
        "BiseNetV1": ("tiny_plugin:BiseNetV1", "the name is taken"),
        "TinyLoss": ("tiny_plugin:Other", "PaddleSeg would call it Other"),
    }
    losses = "\n".join(f"{name} = {value}" for name, (value, _) in bad.items())
    entry_points = f"[paddleseg.transforms]\nTinyTransform = tiny_plugin:TinyTransform\n[paddleseg.losses]\n{losses}\n"
    code = "class TinyTransform: pass\nclass BiseNetV1: pass\nclass Other: pass\n"
    tiny = distribution(tmp_path / "tiny", entry_points, code)
    (tiny / "broken_plugin.py").write_text("raise ImportError('no such library')\n")
    done = python("-c", LIST_REGISTRIES, PYTHONPATH=tiny)
    found = registries(done)
    assert "TinyTransform" in found["transforms"]
    for registry, names in OURS.items():
        assert names <= found[registry]
    skipped = [line for line in done.stderr.splitlines() if "was skipped: " in line]
    assert len(skipped) == 4
    for name, (_, reason) in bad.items():
        assert len([line for line in skipped if f"PaddleSeg component {name} " in line and reason in line]) == 1
    assert not found["losses"] & {*bad, "Other", "Absent"}


def test_broken_plugin_never_breaks_the_host(python, tmp_path):
    """Even the loader itself failing is a warning, and PaddleSeg is imported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nimport types\nbroken = types.ModuleType('bisenetv1_plugin.plugin')\n"
        "sys.modules['bisenetv1_plugin.plugin'] = broken\n"
    )
    fake_paddleseg(tmp_path)
    done = python("-c", "import paddleseg; print('fine')", PYTHONPATH=tmp_path, BISENETV1_PLUGIN_COMPAT=0)
    assert "fine" in done.stdout
    assert "bisenetv1-plugin could not do its part at `import paddleseg`" in done.stderr


@pytest.mark.parametrize("slots", ['__slots__ = ("_loader",)', ""])
def test_a_loader_that_takes_no_attributes(python, tmp_path, slots):
    """Somebody else's, behind another finder; afterwards the module knows its own loader, and registers once."""
    fake_paddleseg(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import importlib.machinery, sys, types

        stand_in = types.ModuleType("bisenetv1_plugin.plugin")
        stand_in.register = lambda: print("registered")
        sys.modules["bisenetv1_plugin.plugin"] = stand_in

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
    code = "import paddleseg; print(*{type(l).__name__ for l in (paddleseg.__loader__, paddleseg.__spec__.loader)})"
    done = python("-c", code, PYTHONPATH=tmp_path, BISENETV1_PLUGIN_COMPAT=0)
    assert (done.stdout.splitlines(), done.stderr) == (["registered", "Loader"], "")


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
