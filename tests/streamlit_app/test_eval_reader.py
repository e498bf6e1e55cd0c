"""Results are read as evaluation writes them; rows are shown with the very words that the model was asked."""

import json
from pathlib import Path

import pytest

from streamlit_app.eval_charts import common_tasks, scores
from streamlit_app.eval_reader import EvalResult, ResultPlace, find_results, read_result, task_names
from streamlit_app.eval_rows import asked, compared, differing, read_rows, why
from streamlit_app.live_files import Unreadable
from streamlit_app.row_browser import known_folder
from tests.streamlit_app.training import train
from vnc.checkpoint import load_model
from vnc.errors import UserError
from vnc.evals.bundle import read_bundle
from vnc.evals.prompts import make_questions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("evals"), "one")


def result(runs: Path, suite: str = "core", step: int = 10) -> EvalResult:
    found = read_result(ResultPlace(runs / f"one/evals/{suite}_step_{step:08d}.json", "one"))
    assert isinstance(found, EvalResult)
    return found


def test_results_of_training_are_found_and_read(runs: Path) -> None:
    places = find_results(runs)
    read = [found for place in places if isinstance(found := read_result(place), EvalResult)]
    assert {(found.suite, found.step, found.model) for found in read} == {
        ("core", 5, "one"), ("core", 10, "one"), ("chatcore", 10, "one")
    }  # fmt: skip
    core = result(runs)
    values = json.loads(core.path.read_text())
    assert core.title == "one · step 10" and core.score == values["core"]
    assert list(core.interval or ()) == values["core_interval"]
    for task, told in zip(core.tasks, values["tasks"], strict=True):
        baseline = told["random_baseline"]
        assert (task.accuracy, task.centered) == (told["accuracy"], told["centered"])
        assert [bound * (1 - baseline) + baseline for bound in task.interval] == pytest.approx(
            told["accuracy_interval"]
        )
    assert common_tasks({"a": core, "b": result(runs, "core", 5)}) == [task.name for task in core.tasks]
    assert common_tasks({"a": core, "b": result(runs, "chatcore")}) == []


def test_a_file_of_evaluate_is_named_after_its_checkpoint(runs: Path, tmp_path: Path) -> None:
    values = json.loads(result(runs).path.read_text())
    del values["step"]
    values |= {"checkpoint": "runs/tiny/checkpoints/step_00000310", "bundle": "some/bundle"}
    (tmp_path / "mine.json").write_text(json.dumps(values))
    (place,) = find_results(tmp_path)
    found = read_result(place)
    assert isinstance(found, EvalResult)
    assert (found.title, found.bundle, known_folder(found)) == ("tiny · step_00000310", "some/bundle", "some/bundle")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"a": 1}, None),
        ({"suite": "ifeval", "tasks": []}, None),
        ({"suite": "core", "difference": 0.1, "tasks": [{}]}, None),
        ({"suite": ["core"], "tasks": 3}, None),
        ({"suite": "core", "tasks": 3}, Unreadable),
        ({"suite": "core", "tasks": [{"label": "a"}]}, Unreadable),
        ({"suite": "core", "core": float("nan"), "tasks": []}, Unreadable),
        ({"suite": "core", "core": 0.1, "core_interval": 3, "tasks": []}, Unreadable),
        ({"suite": "gauntlet", "averages": [0.1], "tasks": []}, Unreadable),
        ({"suite": "gauntlet", "categories": {"name": "a"}, "tasks": []}, Unreadable),
        ({"suite": "gauntlet", "averages": {"all": 0.1}, "categories": [], "tasks": []}, EvalResult),
    ],
)
def test_other_files_are_passed_over_and_broken_ones_told(
    tmp_path: Path, values: dict[str, object], kind: type | None
) -> None:
    (tmp_path / "file.json").write_text(json.dumps(values))
    found = read_result(ResultPlace(tmp_path / "file.json", "file"))
    assert found is None if kind is None else isinstance(found, kind)


def test_names_differ_where_labels_do_not() -> None:
    assert task_names([("a", 0), ("b", 0), ("b", 5)]) == ["a", "b (0-shot)", "b (5-shot)"]


def test_the_words_shown_are_those_that_the_model_read(runs: Path) -> None:
    bundle_folder = runs.parent / "bundle"
    tokenizer = load_model(runs / "one").tokenizer
    rows, core = read_rows("core", str(bundle_folder)), result(runs)
    for task, read in zip(core.tasks, read_bundle(bundle_folder).tasks, strict=True):
        questions = list(make_questions(read, tokenizer, 10_000, 6))
        for place, question in enumerate(questions):
            texts = asked(rows, task.label, task.num_fewshot, task.outcomes, place)
            prompts = [tokenizer.decode(prompt.tokens[1:].tolist()) for prompt in question.prompts]
            assert task.outcomes[place]["row"] == question.row
            if task.kind == "multiple_choice":
                assert prompts == [f"{texts.before}\n\n{texts.question} {option}" for option in texts.options]
            elif task.kind == "schema":
                after = texts.question.removeprefix("... ")
                assert prompts == [f"{texts.before}\n\n{option}\nA: {after}" for option in texts.options]
            else:
                assert prompts == [f"{texts.before}\n\n{texts.question.strip()} {texts.expected}"]


def test_chat_questions_are_shown_too(runs: Path) -> None:
    spelling = next(task for task in result(runs, "chatcore").tasks if task.label == "spelling")
    rows = read_rows("chatcore", str(runs.parent / "chat"))
    for place, outcome in enumerate(spelling.outcomes):
        texts = asked(rows, "spelling", 0, spelling.outcomes, place)
        assert texts.expected == outcome["expected"] and len(texts.question) > 8
        assert compared(outcome, texts) == [] and why(outcome).startswith(("Right: ", "Wrong: "))


def test_other_rows_than_those_scored_are_refused(runs: Path) -> None:
    core = result(runs)
    task = core.tasks[0]
    moved = [dict(outcome) | {"row": (outcome["row"] + 1) % 8} for outcome in task.outcomes]
    rows = read_rows("core", str(runs.parent / "bundle"))
    with pytest.raises(UserError, match="other rows than those that were scored"):
        asked(rows, task.label, task.num_fewshot, moved, 0)
    with pytest.raises(UserError, match="has no task karate"):
        asked(rows, "karate", 0, task.outcomes, 0)
    with pytest.raises(UserError, match="no such folder"):
        read_rows("core", "nowhere")
    with pytest.raises(UserError, match="is not known"):
        read_rows("chatcore", None)


def test_the_bundle_of_a_run_is_known_from_its_configuration(runs: Path) -> None:
    assert known_folder(result(runs)) == "bundle"
    assert known_folder(result(runs, "chatcore")) == "chat"


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ({"correct": True, "choice": 0, "gold": 0, "losses": [1.0, 2.0, 1.5]}, "likelier than the next best, C. Its "
         "loss is 0.500 nats per token lower: on average each of its tokens is 1.65 times as likely."),
        ({"correct": True, "choice": 0, "gold": 0, "losses": [0.5, 8.5]}, "is 2,981 times as likely."),
        ({"correct": True, "choice": 0, "gold": 0, "losses": [0.5, 900.0]}, "is more than a billion times as likely."),
        ({"correct": False, "choice": 1, "gold": 0, "losses": [1.1, 1.0]}, "finds B likelier than the right answer A. "
         "Its loss is 0.100 nats"),
        ({"correct": False, "choice": 0, "gold": 1, "losses": [1.0, 1.0]}, "the first of equals is chosen"),
        ({"correct": True, "choice": 0, "gold": 0, "losses": [None, 1.0]}, "A has no token of its own"),
        ({"correct": False, "choice": 1, "gold": 0, "losses": [None, 1.0]}, "A has no token of its own to be judged"),
        ({"correct": True, "choice": 0, "gold": 0, "losses": [1.0, None]}, "is the only option with tokens"),
        ({"correct": False, "choice": None, "gold": None, "losses": [2.0]}, "is another token. Its loss is 2.000"),
        ({"correct": False, "answer": "4", "expected": "5"}, "is not found in what the model wrote"),
    ],
)  # fmt: skip
def test_why_a_row_counts_as_it_does(outcome: dict[str, object], sentence: str) -> None:
    assert sentence in why(outcome)


def test_rows_on_which_two_models_differ() -> None:
    first = [{"row": row, "correct": row % 2 == 0, "gold": 1} for row in (5, 2, 3, 9)]
    second = [{"row": row, "correct": True, "gold": 1 if row != 9 else 0} for row in (9, 3, 2, 5, 7)]
    assert differing(first, second) == [(0, 3), (2, 1)]  # row 9 has another right answer there; 7 stands there alone
    assert differing(first, first) == []
    written = [{"row": 0, "correct": True, "expected": "4"}], [{"row": 0, "correct": False, "expected": "4"}]
    assert differing(*written) == [(0, 0)]


def test_a_gauntlets_categories_and_averages_are_read(gauntlet: Path) -> None:
    (place,) = find_results(gauntlet)
    found, values = read_result(place), json.loads(place.path.read_text())
    assert isinstance(found, EvalResult) and found.score is None
    assert found.averages == values["averages"] == {"all": pytest.approx(values["averages"]["all"]), "none": None}
    assert [(each.name, each.score, each.missing) for each in found.categories] == [
        (each["name"], each["score"], tuple(each["missing"])) for each in values["categories"]
    ]
    assert list(found.categories[0].interval or ()) == values["categories"][0]["interval"]
    assert found.categories[1].score is None and found.categories[1].interval is None
    assert scores(found) == {"knowledge": values["categories"][0]["score"]}
