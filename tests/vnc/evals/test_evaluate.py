"""`vnc evaluate` from the command line: the table, the JSON file, and one line for each mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch

import cli
from vnc import checkpoint
from vnc.checkpoint import LoadedModel
from vnc.evals.bundle import read_bundle
from vnc.evals.suite import score_bundle
from vnc.tinyworld.tasks import TASKS


@pytest.fixture(scope="module")
def saved(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as an export."""
    folder = tmp_path_factory.mktemp("export")
    tensors = {name: parameter.data.contiguous() for name, parameter in model.gpt.named_parameters()}
    safetensors.torch.save_file(tensors, folder / checkpoint.MODEL_FILE)
    checkpoint.write_model_json(folder, model.gpt.config, chat=False)
    model.tokenizer.save(folder)
    return folder


def evaluate(*arguments: str | Path) -> None:
    cli.run(["evaluate", *map(str, arguments)])


def test_table_and_json(
    model: LoadedModel, saved: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "eval_data/small/schema.jsonl").unlink()
    out = tmp_path / "scores.json"
    evaluate("--checkpoint", saved, "--bundle", bundle, "--json", out, "--compute_dtype", "float32")
    printed = capsys.readouterr().out
    result = score_bundle(model, read_bundle(bundle))
    values = json.loads(out.read_text())
    wanted = json.loads(json.dumps(result.as_dict()))
    assert {key: values[key] for key in wanted} == wanted
    assert (values["suite"], values["bundle"], values["compute_dtype"]) == ("core", str(bundle), "float32")
    assert "left out: schema (eval_data/small/schema.jsonl is not in the bundle)" in printed
    for task in result.tasks:
        assert any(
            line.split()[0] == task.label and f"{task.accuracy:.4f}" in line for line in printed.splitlines()[1:-2]
        )
    assert f"{result.score:.4f}" in printed
    assert list(tmp_path.glob(".scores*")) == []


def test_tinyworld_is_the_default(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("--checkpoint", saved, "--max_examples", "3", "--compute_dtype", "float32")
    printed = capsys.readouterr().out
    assert f"{len(TASKS)} tasks of TinyWorld, {3 * len(TASKS)} rows" in printed
    assert "mean of the 10 with choices" in printed


def test_some_tasks(saved: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    evaluate("--checkpoint", saved, "--bundle", bundle, "--tasks", "schema, multiple_choice", "--json", out)
    assert [task["label"] for task in json.loads(out.read_text())["tasks"]] == ["multiple_choice", "schema"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "nowhere"], "nowhere does not exist"),
        (["--tasks", "schema,nothing"], "has no task 'nothing'; it has multiple_choice, schema, language_modeling"),
        (["--tasks", ","], "name at least one task"),
        (["--max_examples", "0"], "max_examples=0: must be at least 1"),
        (["--max_examples", "2"], "multiple_choice: its 2 solved examples must come from 1 other rows"),
        (["--bundle", "nowhere"], "nowhere: no such folder"),
        (["--json", "nowhere/scores.json"], "there is no folder nowhere"),
        (["--json", "."], "is a folder"),
        (["--device", "abacus"], "device=abacus: not available here"),
        (["--compute_dtype", "float8"], "compute_dtype='float8': use auto"),
        (["--suite", "karate"], "suite"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    saved: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        sys, "argv", ["vnc", "evaluate", "--checkpoint", str(saved), "--bundle", str(bundle), *arguments]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_broken_model_ends_in_one_line_too(
    model: LoadedModel, saved: Path, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = shutil.copytree(saved, tmp_path / "broken")
    tensors = {name: parameter.data.contiguous() for name, parameter in model.gpt.named_parameters()}
    tensors["blocks.0.mlp.fc.weight"] = tensors["blocks.0.mlp.fc.weight"] * float("nan")
    safetensors.torch.save_file(tensors, broken / checkpoint.MODEL_FILE)
    out = tmp_path / "scores.json"
    monkeypatch.setattr(
        sys, "argv", ["vnc", "evaluate", "--checkpoint", str(broken), "--bundle", str(bundle), "--json", str(out)]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "weights are broken" in line
    assert not out.exists()


def test_scoring_does_without_lightning() -> None:
    code = "import sys, vnc.evals.evaluate, vnc.evals.suite; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(cli.__file__).parent).returncode == 0


def test_help_and_mistakes_do_without_torch() -> None:
    code = "import sys, vnc.evals.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(cli.__file__).parent).returncode == 0
