"""The guides and the README show what is so: their commands parse, their Python prints what stands below it, their YAML
is taken, their links lead somewhere, and every file, name and option that they mention exists.

The Python of a guide is run in order, with the same names, in an empty folder. What a block prints stands in a block of
text right below it; a block without one prints nothing. A comment right above a block changes that:
`<!-- not run: reason -->`, and `<!-- shortened in tests: `these words` as `those` -->` for what takes long.
"""

import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

import cli
from one_line_errors import OneLineErrors
from tests.launching import SET_BY_LAUNCHERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "LOG.md"))
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}

BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.S | re.M)
REPLACEMENT = re.compile(r"`([^`]+)` as `([^`]*)`")
NOT_RUN, SHORTENED = "not run: ", "shortened in tests: "


@dataclass(frozen=True)
class Block:
    """One block of code: its kind, the line it starts at, the comment above it, and the block of text right below."""

    kind: str
    text: str
    line: int
    note: str
    printed: str

    def shortened(self) -> str:
        """The code with the words exchanged that the comment names; each of them must be there."""
        text = self.text
        for old, new in REPLACEMENT.findall(self.note):
            assert old in text, f"line {self.line}: the comment replaces {old!r}, which is not in the block"
            text = text.replace(old, new)
        return text


def blocks(text: str) -> list[Block]:
    found = list(BLOCK.finditer(text))
    below = {match.start(): match["text"] for match in found if match["kind"] == "text"}
    return [
        Block(
            match["kind"],
            match["text"],
            line=text.count("\n", 0, match.start("text")) + 1,
            note=match["note"] or "",
            printed=below.get(match.end() + 2, "") if text.startswith("\n\n", match.end()) else "",
        )
        for match in found
    ]


BLOCKS = {page: blocks(text) for page, text in TEXTS.items()}
PROSE = {page: BLOCK.sub("", text) for page, text in TEXTS.items()}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_and_comments_are_of_known_kinds(page: str) -> None:
    assert {block.kind for block in BLOCKS[page]} <= {"sh", "python", "text", "yaml", "json"}
    assert TEXTS[page].count("```") == 2 * len(BLOCKS[page]), "a block that is not closed, or not at a line's start"
    notes = [block.note for block in BLOCKS[page] if block.note]
    assert len(notes) == TEXTS[page].count("<!--"), "a comment that belongs to no block"
    for note in notes:
        assert note.startswith(NOT_RUN) or (note.startswith(SHORTENED) and REPLACEMENT.search(note)), note


def test_blocks_are_found_with_what_stands_around_them() -> None:
    text = "a\n```python\n1\n```\n\n```text\n2\n```\n<!-- shortened in tests: `3` as `4` -->\n\n```python\n3\n```\nb\n"
    first, second, third = blocks(text)
    assert (first.kind, first.text, first.line, first.note, first.printed) == ("python", "1\n", 3, "", "2\n")
    assert second.kind == "text"
    assert third.shortened() == "4\n" and third.printed == ""
    with pytest.raises(AssertionError, match="not in the block"):
        blocks(text.replace("`3`", "`5`"))[2].shortened()


# Python


def differences(page: str, listed: list[Block]) -> list[str]:
    """Runs the blocks of Python that have no comment; what they print otherwise than below them, in words."""
    names: dict[str, object] = {"__name__": "__main__"}
    wrong = []
    for block in listed:
        if block.kind != "python":
            continue
        code = compile("\n" * (block.line - 1) + block.text, page, "exec")  # a traceback gives the page's line
        if block.note:
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(code, names)
        if said.getvalue().rstrip("\n") != block.printed.rstrip("\n"):
            wrong.append(f"{page}, line {block.line} prints\n{said.getvalue()}and below it stands\n{block.printed}")
    return wrong


WITH_PYTHON = [page for page in PAGES if any(block.kind == "python" for block in BLOCKS[page])]


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_prints_what_stands_below_it(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        assert not differences(page, BLOCKS[page])


def test_what_a_page_prints_is_compared() -> None:
    block = "```python\nprint(1)\n```\n"
    assert not differences("", blocks(f"{block}\n```text\n1\n```\n"))
    assert not differences("", blocks(f"<!-- not run: needs a GPU -->\n\n{block}"))
    assert not differences("", blocks("```python\na = 1\n```\n\n```python\nassert a == 1\n```\n"))
    assert differences("", blocks(f"{block}\n```text\n2\n```\n"))
    assert differences("", blocks(block))  # prints, and the reader is not told
    assert differences("", blocks(f"{block}\nprose\n\n```text\n1\n```\n"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(SHORTENED in block.note for block in BLOCKS[page])])
def test_long_blocks_run_when_shortened(page: str, tmp_path: Path) -> None:
    """In processes of their own; each line that Python prints is one of those below its block, if there are any."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SET_BY_LAUNCHERS)}
    environment = kept | {"PATH": folders}  # a run in this process has left its rank and port in os.environ
    for block in BLOCKS[page]:
        if SHORTENED not in block.note:
            continue
        program = ["bash", "-e", "-c"] if block.kind == "sh" else [sys.executable, "-c"]
        ended = subprocess.run(
            [*program, block.shortened()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, f"{page}, line {block.line}: {ended.stderr[-2000:]}"
        if block.kind == "python" and block.printed:
            assert ended.stdout and set(ended.stdout.splitlines()) <= set(block.printed.splitlines())


# Commands

PROGRAMS = ("vnc", "make", "python", "pip", "torchrun", "srun", "tensorboard")


def lines_of(script: str) -> Iterator[str]:
    """The commands of a block of sh: continued lines joined, without comments and the frame of a loop."""
    for line in script.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line and not line.startswith("#") and line != "done" and not re.fullmatch(r"for .*; do", line):
            yield " ".join(line.split())


def is_only_named(command: str) -> bool:
    """`vnc fit`, `vnc prepare`: as prose speaks of a verb, or asks for its help."""
    asked = command.removesuffix(" --help")
    verbs = [f"vnc {verb} " for verb in (*cli.LIGHTNING_VERBS, *cli.VERBS)]
    return asked in ("vnc", "vnc VERB") or any(verb.startswith(f"{asked} ") for verb in verbs)


def commands(page: str) -> list[str]:
    """All those of the blocks of sh, and those in backticks."""
    typed = [line for block in BLOCKS[page] if block.kind == "sh" for line in lines_of(block.text)]
    told = [code for code in re.findall(r"`([^`\n]+)`", PROSE[page]) if code.partition(" ")[0] in PROGRAMS]
    return [*typed, *(code for code in told if " " in code and not is_only_named(code))]


COMMANDS = list(dict.fromkeys((page, command) for page in PAGES for command in commands(page)))


def parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `vnc` would, without running anything."""
    if arguments[0] in cli.LIGHTNING_VERBS:
        monkeypatch.setattr(sys, "argv", ["vnc"])
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            cli.run([*arguments, "--print_config"])
        assert ended.value.code == 0
        return
    name = next(name for length in (2, 1) if (name := " ".join(arguments[:length])) in cli.VERBS)
    function = cli.load(cli.VERBS[name][0])
    parser = OneLineErrors(prog=f"vnc {name}")
    parser.add_function_arguments(function, as_positional=name in cli.POSITIONAL)
    given = cli.spell_out_flags(function, arguments[len(name.split()) :])
    parser.parse_args(cli.spell_out_pairs(function, given))


def check_vnc(arguments: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    saved = folder / "config.yaml"
    saved.write_text("name: earlier\n")
    for position, argument in enumerate(arguments):
        if argument.startswith("runs/") and arguments[position - 1] == "--config":
            arguments[position] = str(saved)  # made by an earlier command of the guide
        elif re.fullmatch(r"[A-Z]|\$\w+", argument):
            arguments[position] = "2"  # stands for a number
    parse(arguments, monkeypatch)


def check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for argument in arguments:
        variable, is_given, _ = argument.partition("=")
        assert f"$({variable})" in makefile if is_given else re.search(rf"^{argument}:", makefile, re.M), argument


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), arguments[1]
        return
    source = (ROOT / arguments[0]).read_text()
    for option in arguments[1:]:
        assert not option.startswith("--") or f'"{option}"' in source, f"{arguments[0]} has no {option}"


def check_pip(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert arguments[0] == "install"
    for extra in re.findall(r"vnc\[(.*?)\]", " ".join(arguments)):
        assert extra in extras


def check(command: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    command = re.sub(r"\[(--[^\]]*)\]", r"\1", command)  # what may be left out
    program, *arguments = [word for word in shlex.split(command, comments=True) if word != "..."]
    if program == "srun":
        program, *arguments = arguments
    if program == "torchrun" and "-m" in arguments:
        place = arguments.index("-m")
        assert arguments[place + 1] == "cli"
        program, arguments = "vnc", arguments[place + 2 :]
    if program == "vnc":
        check_vnc(arguments, monkeypatch, folder)
    elif program in ("make", "python", "pip"):
        {"make": check_make, "python": check_python, "pip": check_pip}[program](arguments)
    else:
        assert program in {script.name for script in importlib.metadata.entry_points(group="console_scripts")}


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command[:50]}" for page, command in COMMANDS])
def test_commands_exist_and_parse(page: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check(command, monkeypatch, tmp_path)


def test_commands_that_do_not_exist_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {"README.md", "docs/running.md", "docs/streaming.md"} <= {page for page, _ in COMMANDS}
    assert list(lines_of("for n in 1 2; do\n  vnc a \\\n    --b 1\ndone\n# d\nls\n")) == ["vnc a --b 1", "ls"]
    assert is_only_named("vnc prepare") and is_only_named("vnc scaling fit --help")
    assert not is_only_named("vnc prepared") and not is_only_named("vnc fit --name a")
    for right in ("make train NAME=a", "python benchmarks/soak.py --runs 3", "pip install 'vnc[app]'", "srun vnc plan"):
        check(right, monkeypatch, tmp_path)
    wrong = ("make tea", "make train TEA=a", "python benchmarks/soak.py --tea 1", "pip install 'vnc[tea]'", "tea --hot")
    for command in wrong:
        with pytest.raises(AssertionError):
            check(command, monkeypatch, tmp_path)
    with pytest.raises(SystemExit):
        check("vnc plan --tea 1", monkeypatch, tmp_path)


# YAML and JSON


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.kind in ("yaml", "json") for b in BLOCKS[page])])
def test_yaml_and_json_are_taken(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for block in BLOCKS[page]:
        if block.kind == "json":
            assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())
        elif block.kind == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
            config = tmp_path / "config.yaml"
            config.write_text(block.text)
            parse(["fit", "--config", str(config)], monkeypatch)


# Links, files, names, options

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
