"""The documentation: links lead somewhere, commands are parsed or run, the Chinese pages keep up with the English."""

import argparse
import contextlib
import importlib.metadata
import io
import os
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from bisenetv1_plugin import __version__, zoo
from bisenetv1_plugin.cli import parser
from bisenetv1_plugin.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README*.md", "C*.md", "SECURITY.md", "docs/**/*.md", "test_tipc/docs/*.md")
    for path in ROOT.glob(pattern)
)
CHINESE = [page for page in PAGES if page.endswith("_CN.md") or page.startswith("docs/zh/")]
ENGLISH = [page for page in PAGES if page not in CHINESE]
ENGLISH_ONLY = {"CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/upstream.md"}
ENGLISH_ONLY |= {page for page in ENGLISH if page.startswith("docs/notes/")}
LONGEST_README = 140

FENCE = re.compile(r"^```(\w*)$(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
OWN_FILE = re.compile(r"^(tests|test_tipc(?!/(output|data)/)|bisenetv1_plugin|\.ci)/")
PLACEHOLDER = re.compile(r"[A-Z]{3,}|\.\.\.")


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block; `mark` is the comment on the line before it, without its arrows."""

    mark: str
    language: str
    code: str


def blocks(text):
    found = []
    for match in FENCE.finditer(text):
        line = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        mark = line[len("<!--") : -len("-->")].strip() if line.startswith("<!--") else ""
        found.append(Block(mark, match[1], match[2].strip("\n")))
    return found


def prose(text):
    return FENCE.sub("", text)


# Links


def anchors(text):
    """GitHub's: letters and digits of any script, hyphens for spaces, a number from the second of the same on."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(text), re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{before}" if before else slug)
    return found


def links(text):
    """Where the relative links and images of a page lead: path and anchor, either may be empty."""
    targets = [unquote(target) for target in LINK.findall(SPAN.sub("", prose(text)))]
    return [target.partition("#")[::2] for target in targets if not re.match(r"https?:|mailto:", target)]


def target_of(page, path):
    return Path(os.path.normpath(ROOT / page / ".." / path)) if path else ROOT / page


def broken_links(page, text):
    broken = []
    for path, anchor in links(text):
        target = target_of(page, path)
        inside = not path.startswith("/") and ROOT in target.parents
        if not (inside and target.exists()):
            broken.append(path)
        elif anchor and anchor not in anchors(text if not path else target.read_text(encoding="utf-8")):
            broken.append(f"{path}#{anchor}")
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_links_have_targets(page):
    assert broken_links(page, text_of(page)) == []


def test_broken_links_are_found():
    wrong = ["docs/none.md", "docs/data.md#none", "../outside.md", "/README.md", "configs/none.png", "#none"]
    right = ["docs/data.md", "docs/data.md#your-own-images", "configs", "#a-b-c", "#a-b-c-1", "https://none.none"]
    right += ["docs/zh/training.md#在-cpu-上"]
    lines = ["# A b: `c`", "## A b, c", *(f"![x]({target})" for target in [*wrong, *right]), "`[x](none)`"]
    assert broken_links("README.md", "\n".join(lines)) == wrong


@pytest.mark.parametrize("start, pages", [("README.md", ENGLISH), ("README_CN.md", CHINESE)])
def test_every_page_can_be_reached(start, pages):
    reached, waiting = set(), [start]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {target_of(page, path) for path, _ in links(text_of(page))}
        waiting += [other for other in pages if ROOT / other in targets - {ROOT / page for page in reached}]
    assert sorted(reached) == pages


@pytest.mark.parametrize("page", ["README.md", "README_CN.md"])
def test_the_readme_is_short(page):
    assert len(text_of(page).splitlines()) <= LONGEST_README


# Commands


def commands(code):
    """The commands of a bash block, a list of words each, with the variables that it sets put in."""
    variables, found = {}, []
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for is_operator, group in groupby(lexer, lambda word: set(word) <= set("&|;")):
            if is_operator:
                continue
            words = [re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), word) for word in group]
            while words and re.match(r"\w+=", words[0]):
                name, _, value = words.pop(0).partition("=")
                variables[name] = value
                words += [value] * (not words)  # an assignment alone: its value is looked at
            found.append(words)
    return found


def faults_of_command(words):
    if words[0] in ("bisenetv1", ".venv/bin/bisenetv1"):
        yield from faults_of_arguments(words[1:])
    elif words[1:3] == ["-m", "bisenetv1_plugin"]:
        yield from faults_of_arguments(words[3:])
    for word in words:
        if OWN_FILE.match(word) and not (ROOT / word).exists():
            yield f"there is no {word}"
        extras = re.fullmatch(r"\.\[(.*)\]", word)
        for extra in extras[1].split(",") if extras else ():
            if extra not in importlib.metadata.metadata("bisenetv1-plugin").get_all("Provides-Extra"):
                yield f"there is no extra {extra}"


def faults_of_arguments(arguments):
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            args = parser().parse_args(arguments)
    except SystemExit as stop:  # --help ends so, too
        if stop.code:
            yield errors.getvalue().splitlines()[-1]
        return
    if getattr(args, "copy", None):
        try:
            zoo.path_of(args.copy[0])
        except InputError as error:
            yield str(error)


def faults_of_span(span):
    """Of a command or a file of this repository that stands in a sentence; commands need not be whole there."""
    words = span.split()
    if words[0] == "bisenetv1" and len(words) > 1 and not PLACEHOLDER.search(words[1]):
        options = options_of(parser())
        if words[1] not in options:
            yield f"there is no command {words[1]}"
        else:
            yield from (f"there is no {word}" for word in words if word[:2] == "--" and word not in options[words[1]])
    for word in words:
        if OWN_FILE.match(word) and not PLACEHOLDER.search(word) and not list(ROOT.glob(word)):
            yield f"there is no {word}"


def options_of(command):
    """Sub-command -> all flags that it and its own sub-commands take."""
    found = {}
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                own = {option for each in sub._actions for option in each.option_strings}
                found[name] = own.union(*options_of(sub).values())
    return found


def faults_of_page(text, spans=True):
    codes = [block.code for block in blocks(text) if block.language == "bash"]
    found = [(words, fault) for code in codes for words in commands(code) for fault in faults_of_command(words)]
    inline = SPAN.findall(prose(text)) if spans else []
    return [f"{' '.join(words)}: {fault}" for words, fault in found] + [
        f"{span}: {fault}" for span in inline for fault in faults_of_span(span)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_right(page):
    assert faults_of_page(text_of(page), spans=page != "CHANGELOG.md") == []  # which names what is no more


@pytest.mark.parametrize(
    "line",
    [
        "bisenetv1 trian --config a.yml",
        "bisenetv1 train --config a.yml --do_evaluate",
        "bisenetv1 train",
        "cd x && .venv/bin/bisenetv1 infer --config a --image_path b --backend tensorflow  # a comment",
        "python -m bisenetv1_plugin val --config a.yml",
        "bisenetv1 configs --copy bisenetv1_of_no_one .",
        "bash test_tipc/none.sh a",
        "C=test_tipc/configs\nbash test_tipc/prepare.sh $C/none.txt whole_infer",
        "python tests/none.py",
        "pip install '.[cpu,none]'",
    ],
)
def test_wrong_commands_are_found(line):
    assert len(faults_of_page(f"```bash\n{line}\n```\n")) == 1


@pytest.mark.parametrize(
    "span", ["bisenetv1 trian", "bisenetv1 data scenes --none", "tests/none.py", "bisenetv1_plugin/none/"]
)
def test_wrong_commands_in_sentences_are_found(span):
    assert len(faults_of_page(f"Use `{span}`.")) == 1


MARKED = [page for page in PAGES if any(block.mark == "run" for block in blocks(text_of(page)))]


def test_marks_are_known():
    marks = {block.mark.partition(":")[0] for page in PAGES for block in blocks(text_of(page))}
    assert marks == {"", "run", "file"}


@pytest.mark.slow
@pytest.mark.parametrize("page", MARKED)
def test_marked_blocks_run(page, tmp_path):
    """One folder and one shell a block; `file: NAME` blocks are what a reader would have typed into that file."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks(text_of(page)):
        if block.mark.startswith("file:"):
            (tmp_path / block.mark.partition(":")[2].strip()).write_text(block.code + "\n", encoding="utf-8")
        elif block.mark == "run":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code],
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
                text=True,
                capture_output=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{block.code}\n{done.stdout}{done.stderr}"


# The Chinese pages


def original(page):
    return page.replace("README_CN.md", "README.md").replace("docs/zh/", "docs/")


def tables(text):
    """The rows of every table, as the numbers in each, sorted: a translation may turn a sentence round."""
    lines = groupby(prose(text).splitlines(), lambda line: line.startswith("|"))
    return [[numbers(line) for line in group] for is_table, group in lines if is_table]


def numbers(text):
    return sorted(re.findall(r"\d+(?:\.\d+)?", re.sub(r"\]\([^)]*\)", "]", text)))


def without_comments(code):
    lines = [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in code.splitlines()]
    return [line for line in lines if line]


def test_every_page_is_translated():
    assert sorted(map(original, CHINESE)) == sorted(set(ENGLISH) - ENGLISH_ONLY)


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_page_follows_this_version(page):
    assert re.findall(r"本页对应英文版 ([\d.]+\d)", text_of(page).splitlines()[0]) == [__version__]


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_page_has_the_tables(page):
    chinese, english = tables(text_of(page)), tables(text_of(original(page)))
    assert [len(table) for table in chinese] == [len(table) for table in english]
    assert chinese == english


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_page_has_the_figures(page):
    chinese = text_of(page).partition("\n")[2]  # the first line has the version
    assert numbers(prose(chinese)) == numbers(prose(text_of(original(page))))


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_page_has_the_commands(page):
    chinese, english = (
        [(block.language, without_comments(block.code)) for block in blocks(text_of(each))]
        for each in (page, original(page))
    )
    assert chinese == english


def test_the_changelog_has_this_version():
    assert re.findall(r"^## \[([\d.]+)\]", text_of("CHANGELOG.md"), re.MULTILINE)[0] == __version__
