"""What the README and the guides refer to is there: links, files, modules, functions, tests, options."""

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

import cli
from tests.guides import BLOCK, PAGES, PROSE, ROOT, TEXTS

PACKAGES = "vnc|callbacks|datamodules|scaling|streamlit_app"
FOLDERS = f"{PACKAGES}|benchmarks|tests|configs|docs"


def anchors(text: str) -> set[str]:
    """What `#...` of a link may name: each heading in small letters, hyphens for spaces, other signs left out."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", PROSE[page]):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert not dead


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Names of a file's functions, classes and variables; those inside a class follow its name and a dot."""

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))

    return frozenset(names(ast.parse(path.read_text()).body, ""))


@cache
def names_of_files() -> frozenset[str]:
    inside = (path.name for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.py"))
    return frozenset([*inside, *(path.name for path in ROOT.glob("*.py"))])


@cache
def names_of_tests() -> frozenset[str]:
    return frozenset(name for path in (ROOT / "tests").rglob("test_*.py") for name in defined_in(path))


def resolves(dotted: str) -> bool:
    """Whether `dotted` is a module of the repository, or something in one; a field counts."""
    words = dotted.split(".")
    for length in range(len(words), 0, -1):
        module = ".".join(words[:length])
        try:
            if importlib.util.find_spec(module) is None:
                continue
        except ModuleNotFoundError:
            continue
        if length == len(words):
            return True
        thing: object = importlib.import_module(module)
        for word in words[length:]:
            if not hasattr(thing, word):
                return word == words[-1] and word in getattr(thing, "__annotations__", {})
            thing = getattr(thing, word)
        return True
    return False


def missing(text: str) -> set[str]:
    """The files, modules, tests, and parts of them that `text` names and that there are not."""
    files = re.findall(rf"(?<![\w./~-])(?:{FOLDERS})/[\w./-]*\w", text)
    lacking = {file for file in files if not (ROOT / file).exists()}
    lacking |= set(re.findall(r"`(\w+\.py)\b", text)) - names_of_files()
    lacking |= set(re.findall(r"(?<![\w/])test_\w+\b(?!\.py)", text)) - names_of_tests()
    dotted = re.findall(rf"(?<![\w./:@-])(?:{PACKAGES})(?:\.[A-Za-z_]\w*)+(?![\w/*-])", text)
    lacking |= {name for name in dotted if not resolves(name)}
    said = re.findall(r"`([\w/]+\.py)::([\w.]+)`", text)
    said += [(path, name) for name, path in re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w/]+\.py)`", text)]
    found = [(path, name) for path, name in said if (ROOT / path).exists()]
    return lacking | {f"{path}::{name}" for path, name in found if name not in defined_in(ROOT / path)}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_name_exists(page: str) -> None:
    assert not missing(TEXTS[page])


def test_names_that_do_not_exist_are_noticed() -> None:
    right = (
        "`vnc/gpt.py`, vnc.gpt.GPT.forward, vnc.depth.TrainingPlan.depth, vnc.muon, `vnc/gpt.py::GPT.forward`, `cli.py`"
        " `orthogonalize` in `vnc/muon.py`, `test_every_file_and_name_exists`, `tests/vnc/test_gpt.py`, `vnc/evals/`"
    )
    assert not missing(right)
    wrong = {"vnc/tea.py", "tests/tea", "vnc.tea", "vnc.gpt.Tea", "vnc/gpt.py::GPT.tea", "tea.py", "test_tea_is_hot"}
    assert missing(", ".join(f"`{name}`" for name in wrong)) == wrong
    assert missing("`brew` in `vnc/muon.py`") == {"vnc/muon.py::brew"}
    assert anchors("# One knob: depth\n```sh\n# no\n```\n") == {"one-knob-depth"}


@cache
def options_of_fit() -> frozenset[str]:
    """`--model.depth` and so on, of all data modules together."""
    found: set[str] = set()

    def collect(tree: object, prefix: str) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                option = prefix if key == "init_args" else f"{prefix}.{key}"
                found.add(f"--{option[1:]}")
                collect(value, option)

    for data in ("TinyWorld", "FineWebEdu", "OpenWebText", "LocalText", "TaskMixture"):
        printed, patch = io.StringIO(), pytest.MonkeyPatch()
        with patch.context() as patched, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            patched.setattr(sys, "argv", ["vnc"])
            cli.run(["fit", "--data", data, "--print_config"])
        collect(yaml.safe_load(printed.getvalue()), "")
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES)
def test_options_of_fit_exist(page: str) -> None:
    """Those with a dot, wherever prose mentions one."""
    assert "--model.depth" in options_of_fit() and "--data.tasks" in options_of_fit()
    assert not set(re.findall(r"(?<![\w-])--\w+\.\w+(?:\.\w+)*", PROSE[page])) - options_of_fit()
