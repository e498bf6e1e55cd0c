"""The guides: the command line takes every `vnc ...` command in them, and their Python prints what they say."""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest

import cli
from one_line_errors import OneLineErrors

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDES = ("chatcore.md", "core.md", "data.md", "depth.md", "finetuning.md", "flops.md", "gpt2_yardstick.md",
          "judges.md", "scaling_laws.md")  # fmt: skip


def commands(text: str) -> list[str]:
    """The commands in blocks of sh, lines ending in a backslash joined, and those with options in backticks."""
    blocks, prose = re.findall(r"```sh\n(.*?)```", text, re.S), re.sub(r"```.*?```", "", text, flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines() + re.findall(r"`(vnc [^`]*--[^`]*)`", prose)
    return [line.strip() for line in lines if line.startswith("vnc ")]


COMMANDS = [(guide, command) for guide in GUIDES for command in commands((DOCS / guide).read_text())]


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


@pytest.mark.parametrize(("guide", "command"), COMMANDS, ids=[command[:60] for _, command in COMMANDS])
def test_commands_parse(guide: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = re.search(r"--config (runs/\S+)", command)
    arguments = shlex.split(command, comments=True)[1:]
    if config:  # made by an earlier command of the guide
        saved = tmp_path / "config.yaml"
        saved.write_text("name: earlier\n")
        arguments[arguments.index(config[1])] = str(saved)
    parse(arguments, monkeypatch)


def test_the_guides_hold_commands() -> None:
    assert {guide for guide, _ in COMMANDS} == set(GUIDES)
    assert commands("```sh\nvnc a \\\n  --b 1\nls\n```\nand `vnc c --d` but not `vnc c`") == [
        "vnc a    --b 1",
        "vnc c --d",
    ]


@pytest.mark.parametrize("guide", GUIDES)
def test_python_prints_what_stands_below_it(guide: str) -> None:
    names: dict[str, object] = {}
    pairs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", (DOCS / guide).read_text(), re.S)
    for code, printed in pairs:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(code, names)
        assert said.getvalue() == printed
    assert pairs or guide != "data.md"
