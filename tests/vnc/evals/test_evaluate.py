"""`vnc evaluate` from the command line: the table, the JSON file, and one line for each mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import cli
from tests.fitting import vnc
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


@pytest.fixture
def other(model: LoadedModel, saved: Path, tmp_path: Path) -> Path:
    """A model with the same weights in other places."""
    folder = shutil.copytree(saved, tmp_path / "other")
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: parameter.data.flatten()[torch.randperm(parameter.numel(), generator=generator)].reshape(parameter.shape)
        for name, parameter in model.gpt.named_parameters()
    }
    safetensors.torch.save_file(tensors, folder / checkpoint.MODEL_FILE)
    return folder


def test_compare_files_and_checkpoints(
    saved: Path, other: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two files, two checkpoints, or one of each: the same comparison."""
    options = ("--bundle", bundle, "--compute_dtype", "float32", "--device", "cpu")
    first, second, out = tmp_path / "first.json", tmp_path / "second.json", tmp_path / "comparison.json"
    evaluate("--checkpoint", saved, *options, "--json", first)
    evaluate("--checkpoint", other, *options, "--json", second)
    capsys.readouterr()
    evaluate("--compare", first, second, "--json", out)
    printed = capsys.readouterr().out
    values = json.loads(out.read_text())
    results = [json.loads(path.read_text()) for path in (first, second)]
    assert values["difference"] == pytest.approx(results[1]["core"] - results[0]["core"])
    low, high = values["interval"]
    assert values["difference"] != 0 and low < values["difference"] < high
    assert (values["suite"], values["first"], values["second"]) == ("core", str(first), str(second))
    for task, *scores in zip(values["tasks"], *(result["tasks"] for result in results), strict=True):
        assert task["accuracies"] == [score["accuracy"] for score in scores]
        assert task["difference"] == pytest.approx(scores[1]["centered"] - scores[0]["centered"])
        row = next(line for line in printed.splitlines() if line.split()[:1] == [task["label"]])
        assert f"{task['difference']:+.4f}" in row and f"{task['accuracies'][0]:.4f}" in row
    assert f"{values['difference']:+.4f}" in printed and f"first: {first}" in printed
    verdict = "the first is better" if high < 0 else "the second is better" if low > 0 else "no difference is certain"
    assert verdict in printed

    for pair in ((saved, other), (first, other), (saved, second)):
        evaluate("--compare", *pair, *options, "--json", out)
        again = json.loads(out.read_text())
        assert {key: again[key] for key in ("tasks", "difference", "interval")} == {
            key: values[key] for key in ("tasks", "difference", "interval")
        }


def test_compare_with_oneself(saved: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("--compare", saved, saved, "--bundle", bundle, "--tasks", "schema")
    printed = capsys.readouterr().out
    assert "no difference is certain: the 95% interval of the difference is" in printed and "+0.0000" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "first.json", "first.json", "--checkpoint", "x"], "give --checkpoint DIR to score a model, or"),
        ([], "give --checkpoint DIR to score a model, or --compare A B to compare two"),
        (["--compare", "first.json", "gone.json"], "gone.json: no such file; give files that vnc evaluate --json has"),
        (["--compare", "first.json", "list.json"], "list.json: not what vnc evaluate --json writes"),
        (["--compare", "first.json", "torn.json"], "torn.json cannot be read"),
        (["--compare", "first.json", "ifeval.json"], "ifeval.json: holds no tasks with rows to compare"),
        (["--compare", "first.json", "chat.json"], "first.json is of suite core, chat.json of chatcore"),
        (["--compare", "first.json", "other.json"], "first.json and other.json have no row of a task in common"),
        (["--compare", "first.json"], "compare"),
        # Those with a folder: it is no checkpoint, so that only what is told before it is opened can be told.
        (["--compare", "folder", "gone.json"], "gone.json: no such file"),
        (["--compare", "folder", "chat.json"], "chat.json is of suite chatcore, --suite is core: compare two of one"),
        (["--compare", "folder", "first.json", "--suite", "ifeval"], "compare: ifeval has no rows that are right"),
        (["--compare", "folder", "first.json", "--max_examples", "0"], "max_examples=0: must be at least 1"),
        (["--compare", "first.json", "first.json", "--json", "nowhere/x.json"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    rows = [{"row": 0, "correct": True, "choice": 0, "gold": 0, "losses": [1.0, 2.0]}]
    task = {"label": "copa", "num_fewshot": 0, "random_baseline": 0.5, "outcomes": rows}
    files = {
        "first.json": {"suite": "core", "tasks": [task]},
        "other.json": {"suite": "core", "tasks": [task | {"label": "piqa"}]},
        "chat.json": {"suite": "chatcore", "tasks": [task]},
        "ifeval.json": {"suite": "ifeval", "prompt_strict": 0.5},
        "list.json": [],
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "torn.json").write_text('{"suite": "co')
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert vnc(monkeypatch, "evaluate", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_scoring_does_without_lightning() -> None:
    code = "import sys, vnc.evals.evaluate, vnc.evals.suite; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(cli.__file__).parent).returncode == 0


def test_help_and_mistakes_do_without_torch() -> None:
    code = "import sys, vnc.evals.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(cli.__file__).parent).returncode == 0
