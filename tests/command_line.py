"""A command of `vnc` parsed by the real command line."""

import contextlib
import io
import sys

import pytest

import cli
from one_line_errors import OneLineErrors


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
