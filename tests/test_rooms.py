"""The structure of the package: allowed imports, no circular imports, short files, and no printing in the library."""

import ast
import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "bisenetv1_plugin"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).replace(".__init__", ""): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# What each room may import from the others; every room may also import from itself and from `EVERYWHERE`.
EVERYWHERE = {"errors", "files", "gpu", "image_files", "libraries", "machine", "plain_yaml", "progress"}
ARROWS = {
    "__init__": {"autoload", "inference"},
    "__main__": {"cli"},
    "autoload": {"__init__", "compat", "plugin"},
    "compat": set(),
    "plugin": set(),
    "pickles": set(),
    "weights": {"pickles"},
    "backbones": {"weights"},
    "losses": {"compat"},
    "models": {"backbones", "compat", "losses", "weights"},
    "transforms": set(),
    "optimizers": set(),
    "configuration": set(),
    "datasets": {"configuration", "drawing"},
    "convert": {"models", "plugin"},
    "drawing": set(),
    "inference": {"drawing", "training"},  # training: `Segmenter.from_weights`, when it is called
    "app": {"inference", "serve"},
    "serve": {"__init__", "drawing", "inference"},
    "export": {"datasets", "inference"},
    "training": {"compat", "configuration", "datasets", "inference", "plugin", "weights"},
    "evaluation": {"backbones", "compat", "drawing", "export", "inference", "losses", "models"},
    "zoo": set(),
    "environment": {"__init__", "compat", "plugin"},
    "tipc": {"datasets", "evaluation", "export", "inference", "training"},
    "cli": {
        *("__init__", "app", "backbones", "convert", "datasets", "drawing", "environment", "evaluation", "export"),
        *("inference", "losses", "models", "serve", "training", "weights", "zoo"),
    },
}


def room(module):
    return module.split(".")[0]


def inside(name):
    """The module of this package that a dotted name is; None if it is none."""
    package, _, module = name.partition(".")
    return (module or "__init__") if package == "bisenetv1_plugin" and (module or "__init__") in MODULES else None


def imports(module):
    """The modules of the package that a module imports, at its head or in a function."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            # `from package import module` is of the module, `from module import name` of the module as well
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if inside(name) else node.module for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {inside(name) for name in names if inside(name)}
    return found - {module}


@pytest.mark.parametrize("module", MODULES)
def test_imports_between_rooms(module):
    others = {room(other) for other in imports(module)} - {room(module)} - EVERYWHERE
    allowed = ARROWS.get(room(module), set())
    assert others <= allowed, f"{module} imports from {sorted(others - allowed)}: see the rooms in docs/design.md"


def test_no_circular_imports():
    """But for the start-up hook, whose later half asks for the earlier one when it is called."""
    graph = {module: imports(module) - {"__init__"} for module in MODULES}
    while graph:
        leaves = [module for module, needs in graph.items() if not needs & graph.keys()]
        assert leaves, f"these import one another in a circle: {sorted(graph)}"
        for module in leaves:
            del graph[module]


@pytest.mark.parametrize("module", MODULES)
def test_file_length(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("package", ["datasets.check", "datasets.own", "datasets.prepare", "datasets.scenes"])
def test_exported_names_exist(package):
    """Ruff does not check them in an `__init__.py`."""
    module = importlib.import_module(f"bisenetv1_plugin.{package}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def functions(module):
    return [
        node
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_function_length(module):
    """Without its docstring, in which shapes and errors may take their room."""
    for function in functions(module):
        first = function.body[0]
        documented = ast.get_docstring(function) is not None
        lines = function.end_lineno - function.lineno + 1 - documented * (first.end_lineno - first.lineno + 1)
        assert lines <= 60, f"{module}.{function.name} has {lines} lines"


def test_shared_file_names():
    """`cli/val.py` may call `evaluation/val.py`: of other pairs a reader has to ask which one is meant."""
    named = {}
    for module in MODULES:
        named.setdefault(module.split(".")[-1], []).append(module)
    for name, modules in named.items():
        others = set(modules) - {f"cli.{name}", "__main__", "tipc.__main__"}
        rooms = {module for module in others if MODULES[module].stem == name}
        called = imports(f"cli.{name}") if f"cli.{name}" in modules else set()
        assert len(rooms) < 2 and (len(modules) < 2 or f"cli.{name}" not in modules or rooms <= called), sorted(modules)


@pytest.mark.parametrize("page", ["docs/design.md", "docs/zh/design.md"])
def test_design_page_names_every_room(page):
    text = (PACKAGE.parent / page).read_text(encoding="utf-8")
    there = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*")}
    tables = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", tables):
        assert any(f"/{path}".endswith("/" + name.rstrip("/")) for path in there), name
    for path in (PACKAGE / "inference").rglob("*.py"):
        assert path.name == "__init__.py" or path.name in text, path.name


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) not in ("cli", "tipc", "__main__")])
def test_only_commands_print(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"print", "input"} and not modules & {"argparse", "tqdm"}


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "cli"])
def test_bars_are_made_in_one_place(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "tqdm"]
    assert not found or module in ("cli.progress", "cli.terminal")
