"""docs/api.md, in both languages, is the public surface: names, signatures, attributes."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from bisenetv1_plugin.progress import silent

PAGES = [Path(__file__).resolve().parents[1] / page for page in ("docs/api.md", "docs/zh/api.md")]
RESULTS = ("Segmenter", "Segmentation", "Region")


def modules(page):
    return {name: importlib.import_module(name) for name in re.findall(r"`(bisenetv1_plugin[\w.]*)`", page)}


def signatures(page):
    """The blocks that are signatures: the name, dotted, and the function they declare."""
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for name, rest in re.findall(r"^([\w.]+)(\(.*?\)(?: -> [^\n]+)?)$", block, re.MULTILINE | re.DOTALL):
            if not block.startswith(("from ", "import ")):
                space = {"silent": silent}
                exec(f"from __future__ import annotations\ndef declared{rest}: ...", space)
                yield name, space["declared"]


def described(function):
    signature = inspect.signature(function)
    found = [(one.name, one.default, one.annotation) for one in signature.parameters.values() if one.name != "self"]
    gives = signature.return_annotation
    return found, None if gives in ("None", inspect.Signature.empty) else gives


def find(name, page):
    first, *rest = name.split(".")
    found = next(getattr(module, first) for module in modules(page).values() if hasattr(module, first))
    for part in rest:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_signatures(path):
    page = path.read_text(encoding="utf-8")
    declared = dict(signatures(page))
    assert len(declared) > 20
    for name, function in declared.items():
        assert described(function) == described(find(name, page)), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_every_name_is_there(path):
    page = path.read_text(encoding="utf-8")
    said = set(re.findall(r"`(\w+)(?:\(\))?`", page)) | {
        part for name, _ in signatures(page) for part in name.split(".")
    }
    assert len(modules(page)) > 8
    for name, module in modules(page).items():
        assert set(module.__all__) <= said, name
    for name in RESULTS:
        kind = find(name, page)
        public = {*vars(kind), *getattr(kind, "__dataclass_fields__", ())}
        assert {part for part in public if not part.startswith("_")} <= said, name


def test_a_wrong_page_is_found():
    page = "`bisenetv1_plugin`\n```python\nSegmentation.save(file: str)\n```\n"
    ((name, function),) = signatures(page)
    assert described(function) != described(find(name, page))
