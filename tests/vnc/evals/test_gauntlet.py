"""The gauntlet: means by hand, what is missing, and every way in which its file can be wrong."""

import copy
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from vnc.errors import UserError
from vnc.evals.bootstrap import mean_interval
from vnc.evals.bundle import Bundle, LeftOut, Task, read_bundle
from vnc.evals.examples import LanguageModeling
from vnc.evals.gauntlet import Category, CategoryScore, Gauntlet, GauntletResult, read_gauntlet
from vnc.evals.results import Outcome, SuiteResult, TaskResult

Content = dict[str, Any]


def entry(label: str, shots: Sequence[int] = (0,), kind: str = "multiple_choice", **keys: Any) -> Content:
    uri = f"small/{kind}.jsonl"
    return {"label": label, "dataset_uri": uri, "num_fewshot": [*shots], "icl_task_type": kind, **keys}


def benchmark(name: str, shots: int = 0, baseline: float = 0.0) -> Content:
    return {"name": name, "num_fewshot": shots, "random_baseline": baseline}


CONTENT: Content = {
    "icl_tasks": [
        entry("animals", (0, 2)),
        entry("places", kind="schema", continuation_delimiter="\nA: "),
        entry("sentences", kind="language_modeling"),
        entry("gone", kind="language_modeling") | {"dataset_uri": "small/gone.jsonl"},
    ],
    "eval_gauntlet": {
        "averages": {"all": ["knowledge", "language"], "half": ["language", "lost"], "none": ["lost"]},
        "categories": [
            {"name": "knowledge", "benchmarks": [benchmark("animals", 2, 0.4), benchmark("places", 0, 0.5)]},
            {"name": "language", "benchmarks": [benchmark("sentences"), benchmark("gone")]},
            {"name": "lost", "benchmarks": [benchmark("gone")]},
        ],
    },
}


@pytest.fixture
def folder(bundle: Path) -> Path:
    """The small bundle with a gauntlet of four tasks, of which one has no data."""
    rows = [["Eval Task", "Random baseline"], ["animals", 25], ["places", 50], ["sentences", 0], ["gone", 0]]
    with (bundle / "eval_meta_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (bundle / "core.yaml").unlink()
    return write(bundle, CONTENT)


def write(bundle: Path, content: object) -> Path:
    (bundle / "gauntlet.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return bundle


def made(label: str, correct: str, baseline: float = 0.0, shots: int = 0) -> TaskResult:
    rows = tuple(Outcome(row, letter == "+", None, None, (1.0,)) for row, letter in enumerate(correct))
    return TaskResult(label, "language_modeling", shots, baseline, rows)


def task(label: str, rows: int, categories: tuple[str, ...] = (), shots: int = 0, baseline: float = 0.0) -> Task:
    examples = tuple(LanguageModeling("a", "b") for _ in range(rows))
    return Task(label, "language_modeling", shots, " ", baseline, examples, categories)


def test_tasks_categories_and_averages_are_read(folder: Path) -> None:
    gauntlet = read_gauntlet(folder)
    assert [(each.label, each.num_fewshot) for each in gauntlet.bundle.tasks] == [
        ("animals", 0), ("animals", 2), ("places", 0), ("sentences", 0),
    ]  # fmt: skip
    assert gauntlet.bundle.left_out == (LeftOut("gone", "eval_data/small/gone.jsonl is not in the bundle"),)
    assert gauntlet.categories == (
        Category("knowledge", (("animals", 2), ("places", 0))),
        Category("language", (("sentences", 0), ("gone", 0))),
        Category("lost", (("gone", 0),)),
    )
    assert gauntlet.averages == {"all": ("knowledge", "language"), "half": ("language", "lost"), "none": ("lost",)}


def test_a_baseline_is_that_of_the_category_at_these_shots_or_else_of_the_table(folder: Path) -> None:
    baselines = {(each.label, each.num_fewshot): each.baseline for each in read_gauntlet(folder).bundle.tasks}
    assert baselines == {("animals", 0): 0.25, ("animals", 2): 0.4, ("places", 0): 0.5, ("sentences", 0): 0.0}


def test_a_baseline_may_be_in_the_yaml_alone(folder: Path) -> None:
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nanimals,25\n")
    baselines = {(each.label, each.num_fewshot): each.baseline for each in read_gauntlet(folder).bundle.tasks}
    assert baselines[("places", 0)] == 0.5
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nplaces,50\n")
    with pytest.raises(UserError, match="eval_meta_data.csv has no row for the task 'animals'"):  # at 0 shots
        read_gauntlet(folder)


def test_further_tasks_are_scored_and_are_in_no_category(folder: Path) -> None:
    content = copy.deepcopy(CONTENT) | {"icl_tasks_extra": [entry("more", (1,))]}
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nanimals,25\nmore,10\n")
    gauntlet = read_gauntlet(write(folder, content))
    assert [each.label for each in gauntlet.bundle.tasks] == ["animals", "animals", "places", "sentences", "more"]
    assert gauntlet.bundle.tasks[-1].baseline == pytest.approx(0.1)
    assert [each.label for each in read_gauntlet(folder, ["more", "places"]).bundle.tasks] == ["places", "more"]


def test_scores_by_hand() -> None:
    """Centred means of centred means, whatever the sizes; a task at other shots is another task."""
    bundle = Bundle((task("a", 4), task("b", 2), task("b", 2, shots=5), task("c", 5)))
    gauntlet = Gauntlet(
        bundle,
        (Category("one", (("a", 0), ("b", 5))), Category("two", (("c", 0),))),
        {"both": ("one", "two"), "first": ("one",)},
    )
    suite = SuiteResult((made("a", "+++-", 0.5), made("b", "--"), made("b", "+-", 0.2, 5), made("c", "+----", 0.1)))
    result = GauntletResult(gauntlet, suite)
    a, b, c = (0.75 - 0.5) / 0.5, (0.5 - 0.2) / 0.8, (0.2 - 0.1) / 0.9
    assert result.categories == (
        CategoryScore("one", pytest.approx((a + b) / 2), ("a", "b"), ()),
        CategoryScore("two", pytest.approx(c), ("c",), ()),
    )
    assert result.averages == {"both": pytest.approx(((a + b) / 2 + c) / 2), "first": pytest.approx((a + b) / 2)}
    first = [[-1.0, 1.0, 1.0, 1.0], [-0.25, 1.0]]
    assert result.interval(result.categories[0]) == pytest.approx(mean_interval(first))


def test_rows_with_categories_count_by_category_and_not_by_row() -> None:
    """Eight rows of one subject and two of another: the mean of both subjects, also where rows were drawn."""
    subjects = ("law",) * 8 + ("physics",) * 2
    gauntlet = Gauntlet(Bundle((task("mmlu", 10, subjects),)), (Category("knowledge", (("mmlu", 0),)),), {})
    whole = made("mmlu", "++++++----", 0.25)
    result = GauntletResult(gauntlet, SuiteResult((whole,)))
    assert whole.accuracy == 0.6
    expected = ((6 / 8 + 0) / 2 - 0.25) / 0.75
    assert result.task_score(whole) == pytest.approx(expected) and result.categories[0].score == pytest.approx(expected)
    groups = [[[1.0] * 6 + [-1 / 3] * 2, [-1 / 3] * 2]]
    assert result.interval(result.categories[0]) == pytest.approx(mean_interval(groups))
    drawn = TaskResult("mmlu", "multiple_choice", 0, 0.25, (whole.outcomes[9], whole.outcomes[2], whole.outcomes[7]))
    assert result.task_score(drawn) == pytest.approx(((1 / 2 + 0) / 2 - 0.25) / 0.75)
    one = TaskResult("mmlu", "multiple_choice", 0, 0.25, whole.outcomes[:3])  # no row of physics was drawn
    assert result.task_score(one) == 1.0


def test_what_was_not_scored_is_named_and_in_no_average() -> None:
    gauntlet = Gauntlet(
        Bundle((task("a", 2),)),
        (Category("some", (("a", 0), ("gone", 0))), Category("lost", (("gone", 3), ("a", 5)))),
        {"all": ("some", "lost"), "nothing": ("lost",)},
    )
    result = GauntletResult(gauntlet, SuiteResult((made("a", "+-"),), (LeftOut("gone", "no data"),)))
    some, lost = result.categories
    assert some == CategoryScore("some", 0.5, ("a",), ("gone",))
    assert lost == CategoryScore("lost", None, (), ("gone", "a"))
    assert result.averages == {"all": 0.5, "nothing": None}
    assert result.interval(lost) is None
    values = json.loads(json.dumps(result.as_dict()))
    assert values["categories"][1] == {
        "name": "lost", "score": None, "interval": None, "tasks": [], "missing": ["gone", "a"],
    }  # fmt: skip
    assert values["averages"] == {"all": 0.5, "nothing": None}
    assert values["left_out"] == [{"label": "gone", "reason": "no data"}]


def change(*path: Any, to: Any) -> Callable[[Content], None]:
    """Puts a value at a place of the file; without one, takes out what is there."""

    def apply(content: Content) -> None:
        here: Any = content
        for step in path[:-1]:
            here = here[step]
        if to is ...:
            del here[path[-1]]
        else:
            here[path[-1]] = to

    return apply


SECTION, CATEGORIES, AVERAGES = "eval_gauntlet", ("eval_gauntlet", "categories"), ("eval_gauntlet", "averages")
FIRST = (*CATEGORIES, 0, "benchmarks")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (change(SECTION, to=...), "eval_gauntlet must be a mapping with a list of categories"),
        (change(SECTION, to=[1]), "eval_gauntlet must be a mapping"),
        (change(SECTION, to={"averages": {}}), "eval_gauntlet must be a mapping with a list of categories"),
        (change(*CATEGORIES, to={"name": "x"}), "eval_gauntlet must be a mapping with a list of categories"),
        (change(*CATEGORIES, 0, to="knowledge"), "each category must be a mapping with a name and benchmarks"),
        (change(*CATEGORIES, 0, "name", to=...), "each category must be a mapping with a name"),
        (change(*CATEGORIES, 1, "name", to="knowledge"), "the category knowledge stands there twice"),
        (change(*FIRST, to=...), "category knowledge has no list of benchmarks"),
        (change(*FIRST, to=[]), "category knowledge has no list of benchmarks"),
        (change(*FIRST, to=5), "category knowledge has no list of benchmarks"),
        (change(*FIRST, to="animals"), "category knowledge has no list of benchmarks"),
        (change(*FIRST, 0, to="animals"), "category knowledge: each benchmark needs a name and a num_fewshot"),
        (change(*FIRST, 0, "name", to=...), "category knowledge: each benchmark needs a name"),
        (change(*FIRST, 0, "num_fewshot", to=[2]), "category knowledge: each benchmark needs a name and a num_fewshot"),
        (change(*FIRST, 0, "num_fewshot", to=True), "each benchmark needs a name and a num_fewshot"),
        (change(*FIRST, 0, "random_baseline", to=...), "knowledge, animals: random_baseline must be .* found None"),
        (change(*FIRST, 0, "random_baseline", to=25), "random_baseline must be from 0 to below 1, found 25"),
        (change(*FIRST, 0, "random_baseline", to="0.25"), "random_baseline must be .* found '0.25'"),
        (change(*FIRST, 0, "random_baseline", to=float("nan")), "random_baseline must be .* found nan"),
        (change(*AVERAGES, to=["knowledge"]), "averages must be a mapping of lists of categories"),
        (change(*AVERAGES, "all", to="knowledge"), "average all must be a list of categories, found 'knowledge'"),
        (change(*AVERAGES, "all", to=[]), r"average all must be a list of categories, found \[\]"),
        (change(*AVERAGES, "all", to=None), "average all must be a list of categories, found None"),
        (change(*AVERAGES, "all", to=[["knowledge"]]), "average all must be a list of categories"),
        (change(*AVERAGES, "all", to=["lost", "maths"]), "average all: 'maths' is none of its categories knowledge"),
        (change("icl_tasks", to=...), "needs a key icl_tasks with a list of tasks"),
        (change("icl_tasks", 1, "label", to="animals"), "the task 'animals' stands there twice"),
        (change("icl_tasks_extra", to=[]), "needs a key icl_tasks_extra with a list of tasks"),
        (change("icl_tasks_extra", to=[entry("places")]), "icl_tasks_extra has the task 'places' once more"),
        (change("icl_tasks_extra", to=[entry("more", kind="essay")]), "icl_task_type 'essay' is not known"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(folder: Path, wrong: Callable[[Content], None], message: str) -> None:
    content = copy.deepcopy(CONTENT)
    wrong(content)
    with pytest.raises(UserError, match=message) as caught:
        read_gauntlet(write(folder, content))
    assert "gauntlet.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_missing_or_no_yaml(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no task 'karate'; it has animals, places, sentences, gone"):
        read_gauntlet(folder, ["karate"])
    (folder / "gauntlet.yaml").write_text("eval_gauntlet: [")
    with pytest.raises(UserError, match="gauntlet.yaml is not YAML"):
        read_gauntlet(folder)
    (folder / "gauntlet.yaml").unlink()
    with pytest.raises(UserError, match="is no bundle: it has no gauntlet.yaml"):
        read_gauntlet(folder)
    with pytest.raises(UserError, match="no such folder"):
        read_gauntlet(tmp_path / "nowhere")


def test_the_real_gauntlet(shared_data: Path) -> None:
    gauntlet = read_gauntlet(shared_data / "eval_bundle")
    tasks = {(each.label, each.num_fewshot): each for each in gauntlet.bundle.tasks}
    assert len(tasks) == len(gauntlet.bundle.tasks) == 49 and gauntlet.bundle.left_out == ()
    assert [category.name for category in gauntlet.categories] == [
        "world_knowledge", "commonsense_reasoning", "language_understanding", "symbolic_problem_solving",
        "reading_comprehension",
    ]  # fmt: skip
    assert gauntlet.averages == {"core_average": tuple(category.name for category in gauntlet.categories)}
    assert all(name in tasks for category in gauntlet.categories for name in category.benchmarks)
    # Fractions in the YAML go before percentages in the table: boolq has 62% there.
    assert tasks["boolq", 0].baseline == 0.5
    core = {each.label: each.baseline for each in read_bundle(shared_data / "eval_bundle").tasks}
    assert core["boolq"] == pytest.approx(0.62)
    assert len(set(tasks["mmlu", 5].categories)) == 10
    assert len(set(tasks["jeopardy", 3].categories)) > 1 and not tasks["arc_easy", 3].categories
    writing = tasks["svamp", 5].writing
    assert (writing.question_prelimiter, writing.cot_delimiter) == ("Question: ", "The answer is ")
    assert writing.early_stopping_criteria == ("\n\n", "Question:") and not writing.do_normalization
    assert tasks["triviaqa_sm_sub", 3].writing.do_normalization
