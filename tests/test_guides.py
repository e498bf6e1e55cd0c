"""The code of the guides and the README runs: commands parse, Python prints what stands below it, YAML is taken.

The Python of a guide is run in order, with the same names, in an empty folder. What a block prints stands in a block of
text right below it; a block without one prints nothing. A comment right above a block changes that:
`<!-- not run: reason -->`, and `<!-- shortened in tests: `these words` as `those` -->` for what takes long.
"""

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
from pathlib import Path

import pytest
import torch
import yaml

import cli
from tests.command_line import parse
from tests.guides import BLOCKS, NOT_RUN, PAGES, PROSE, REPLACEMENT, ROOT, SHORTENED, TEXTS, Block, blocks
from tests.warm_start import SET_BY_LAUNCHERS, WarmProcess


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
        if block.kind == "python":
            (tmp_path / "block.py").write_text(block.shortened())
            program = WarmProcess(["block.py"], tmp_path, environment)
        else:
            program = subprocess.Popen(["bash", "-e", "-c", block.shortened()], cwd=tmp_path, env=environment,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        try:
            out, err = program.communicate(timeout=200)
        finally:
            program.kill()
        assert program.returncode == 0, f"{page}, line {block.line}: {err[-2000:]}"
        if block.kind == "python" and block.printed:
            assert out and set(out.splitlines()) <= set(block.printed.splitlines())


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
