"""The front door: help, dispatch, shipped configurations, and what is (not) imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import cli
from tests.fitting import vnc

ROOT = Path(__file__).parents[1]


def test_help_names_every_verb(monkeypatch, capsys):
    assert vnc(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert all(f"vnc {name} " in text for name in [*cli.LIGHTNING_VERBS, *cli.VERBS])


@pytest.mark.parametrize("verb", [*cli.LIGHTNING_VERBS, *cli.VERBS])
def test_every_verb_has_help(monkeypatch, capsys, verb):
    assert vnc(monkeypatch, *verb.split(), "--help") == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["plan", "--help"])
def test_light_verbs_do_not_import_torch(verb):
    script = f"import sys; sys.argv = ['vnc', {verb!r}]; import cli; cli.main(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_chat_does_not_import_lightning():
    script = (
        "import sys, vnc.chat, vnc.checkpoint, vnc.engine; assert not {'lightning', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_training_starts_without_scipy_signal_and_leaves_it_as_it_is():
    script = (
        "import sys; sys.argv = ['vnc', 'fit', '--help']\nimport cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert 'torchmetrics' in sys.modules and 'scipy.signal' not in sys.modules\n"
        "import scipy.signal; assert scipy.signal.windows.hamming(3)[1] == 1"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_a_bare_flag_is_true():
    def function(json: bool = False, depth: int = 1) -> None: ...

    assert cli.spell_out_flags(function, ["--json", "--depth", "2"]) == ["--json", "true", "--depth", "2"]
    assert cli.spell_out_flags(function, ["--json", "false"]) == ["--json", "false"]


def test_a_pair_is_two_words():
    def function(pair: tuple[str, str] | None = None, one: str = "", several: list[str] | None = None) -> None: ...

    def spelled(*arguments: str) -> list[str]:
        return cli.spell_out_pairs(function, list(arguments))

    assert spelled("--pair", "a", "b", "--one", "c") == ["--pair", '["a", "b"]', "--one", "c"]
    assert spelled("--one", "c", "--pair", "a b", 'q"') == ["--one", "c", "--pair", json.dumps(["a b", 'q"'])]
    assert spelled("--pair", '["a", "b"]', "--one", "c") == ["--pair", '["a", "b"]', "--one", "c"]
    assert spelled("--pair", "a") == ["--pair", "a"]
    assert spelled("--one", "a", "b") == ["--one", "a", "b"]
    assert spelled() == []


def test_pairs_reach_the_verb(monkeypatch):
    """With the real verb's signature, under postponed annotations."""
    heard = []
    monkeypatch.setattr("vnc.evals.evaluate._compare", lambda pair, *rest: heard.append(pair) or {})
    cli.run(["evaluate", "--compare", "a.json", "runs/b", "--max_examples", "3"])
    cli.run(["evaluate", "--compare", '["a.json", "runs/b"]'])
    assert heard == [("a.json", "runs/b")] * 2


CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("sweep"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_understood(config, monkeypatch, tmp_path, capsys):
    """--print_config parses every key and fills in the rest."""
    monkeypatch.chdir(tmp_path)
    assert vnc(monkeypatch, "fit", "--config", config, "--print_config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    given = yaml.safe_load(config.read_text())
    assert printed["name"] == given["name"]
    assert {key: printed["model"][key] for key in given["model"]} == given["model"]


def test_configurations_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = cli.find_configs(["fit", "--config", "configs/tiny.yaml"])
    assert Path(found[2]).is_file()
