"""The suites of base models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.vnc.evals.suites.conftest import Run
from tests.vnc.evals.suites.json_files import lines, read

CODE = {"prompt": "def f(x):\n", "canonical_solution": "    return x\n", "entry_point": "f", "test_inputs": ["(1,)"],
        "test_outputs": ["1"]}  # fmt: skip


def add_tasks(bundle: Path, file: str, entries: list[dict[str, Any]]) -> None:
    content = yaml.safe_load((bundle / file).read_text()) if (bundle / file).exists() else {"icl_tasks": []}
    content["icl_tasks"] += entries
    (bundle / file).write_text(yaml.safe_dump(content))
    with (bundle / "eval_meta_data.csv").open("a") as table:
        table.writelines(f"{entry['label']},a,0\n" for entry in entries)


def written_task(bundle: Path, label: str, kind: str, rows: Sequence[Any], **keys: Any) -> dict[str, Any]:
    lines(bundle / "eval_data" / f"{label}.jsonl", rows)
    return {"label": label, "dataset_uri": f"{label}.jsonl", "num_fewshot": [0], "icl_task_type": kind, **keys}


QUESTIONS = [{"context": f"Who is number {number}?", "answer": "Mara"} for number in range(4)]


def test_core_scores_tasks_of_all_types(run: Run, bundle: Path, tmp_path: Path) -> None:
    question = written_task(bundle, "who", "generation_task_with_answers", QUESTIONS, early_stopping_criteria=["\n"])
    add_tasks(bundle, "core.yaml", [question, written_task(bundle, "programs", "code_evaluation", [CODE])])
    code, out, _ = run("core", "--bundle", bundle, "--max_examples", 4, "--json", "scores.json")
    assert code == 0
    values = read(tmp_path / "scores.json")
    assert [task["label"] for task in values["tasks"]] == ["multiple_choice", "schema", "language_modeling", "who"]
    assert [left["label"] for left in values["left_out"]] == ["programs"]
    assert "left out: programs (its answers are programs" in out and "--allow_code_execution" in out
    assert values["core"] == pytest.approx(sum(task["centered"] for task in values["tasks"]) / 4)
    assert {outcome["expected"] for outcome in values["tasks"][3]["outcomes"]} == {"Mara"}


@pytest.mark.parametrize("suite", ["core", "gauntlet"])
def test_where_nothing_can_be_scored_there_is_no_score(suite: str, run: Run, bundle: Path) -> None:
    add_tasks(bundle, "core.yaml", [written_task(bundle, "programs", "code_evaluation", [CODE])])
    content = yaml.safe_load((bundle / "core.yaml").read_text()) | {"eval_gauntlet": {"categories": []}}
    (bundle / "gauntlet.yaml").write_text(yaml.safe_dump(content))
    code, _, err = run(suite, "--bundle", bundle, "--tasks", "programs")
    assert code == 2 and "no task to score; left out are programs (" in err and "--allow_code_execution" in err
    assert len(err.splitlines()) == 1


def test_gauntlet(run: Run, bundle: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((bundle / "core.yaml").read_text())
    names = {"knowledge": ["multiple_choice", "gone"], "language": ["schema", "language_modeling"], "lost": ["gone"]}
    content["eval_gauntlet"] = {
        "averages": {"all": ["knowledge", "language"], "nothing": ["lost"]},
        "categories": [
            {"name": name, "benchmarks": [
                {"name": label, "num_fewshot": 2, "random_baseline": 0.2} for label in labels
            ]} for name, labels in names.items()
        ],
    }  # fmt: skip
    (bundle / "gauntlet.yaml").write_text(yaml.safe_dump(content))
    code, out, _ = run("gauntlet", "--bundle", bundle, "--json", "scores.json")
    assert code == 0
    values = read(tmp_path / "scores.json")
    tasks = {task["label"]: task for task in values["tasks"]}
    assert {task["random_baseline"] for task in tasks.values()} == {0.2}
    centered = {label: (task["accuracy"] - 0.2) / 0.8 for label, task in tasks.items()}
    knowledge, language = values["categories"][0], values["categories"][1]
    assert knowledge["score"] == pytest.approx(centered["multiple_choice"]) and knowledge["missing"] == ["gone"]
    assert language["score"] == pytest.approx((centered["schema"] + centered["language_modeling"]) / 2)
    assert values["averages"]["all"] == pytest.approx((knowledge["score"] + language["score"]) / 2)
    assert values["averages"]["nothing"] is None and values["categories"][2]["score"] is None
    assert knowledge["interval"][0] <= knowledge["score"] <= knowledge["interval"][1]
    table = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert table["knowledge"][1:5] == ["1", "of", "2", f"{knowledge['score']:.4f}"]
    assert table["lost"][1:] == ["0", "of", "1", "no", "data"] and table["nothing"][1:] == ["no", "data"]
    assert table["all"][1] == f"{values['averages']['all']:.4f}"
    assert "not scored, and in no average: gone in knowledge, gone in lost" in out
