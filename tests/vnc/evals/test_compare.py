"""The paired difference of two results: right by hand, sharper than the scores alone, and what cannot be compared."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from vnc.errors import UserError
from vnc.evals.bootstrap import mean_interval
from vnc.evals.compare import as_dict, compare, read_results
from vnc.evals.results import Outcome, SuiteResult, TaskResult, Written

NAMES = ("a.json", "b.json")


def task(label: str, correct: Sequence[bool], baseline: float = 0.0, shots: int = 0, first_row: int = 0) -> TaskResult:
    rows = tuple(Outcome(first_row + row, right, 0, 0, (1.0, 2.0)) for row, right in enumerate(correct))
    return TaskResult(label, "multiple_choice", shots, baseline, rows)


def result(*tasks: TaskResult, metric: str = "core") -> dict[str, Any]:
    """As `vnc evaluate --json` writes it, and as it is read back."""
    values = {"suite": metric, **SuiteResult(tasks, metric=metric).as_dict()}
    again: dict[str, Any] = json.loads(json.dumps(values))
    return again


def bits(text: str) -> list[bool]:
    return [letter == "+" for letter in text]


def test_differences_by_hand() -> None:
    first = result(task("copa", bits("++--"), 0.5), task("piqa", bits("+---+"), 0.25, shots=10))
    second = result(task("copa", bits("+++-"), 0.5), task("piqa", bits("----+"), 0.25, shots=10))
    found = compare(first, second, NAMES)
    copa, piqa = found.tasks
    assert (copa.label, copa.num_fewshot, copa.rows, copa.accuracies) == ("copa", 0, 4, (0.5, 0.75))
    assert (piqa.label, piqa.num_fewshot, piqa.rows, piqa.accuracies) == ("piqa", 10, 5, (0.4, 0.2))
    assert copa.difference == pytest.approx(0.25 / 0.5)
    assert piqa.difference == pytest.approx(-0.2 / 0.75)
    assert found.difference == pytest.approx((0.25 / 0.5 - 0.2 / 0.75) / 2)
    assert found.alone == () and found.metric == "core"
    # One row of four differs, by 1 / (1 - 0.5): the mean of four draws is 0, 0.5, 1.0 or 1.5 with this likelihood.
    assert copa.interval.low == 0.0 and copa.interval.high in (1.0, 1.5)
    both = mean_interval([[0.0, 0.0, 2.0, 0.0], [-1 / 0.75, 0.0, 0.0, 0.0, 0.0]])
    assert found.interval == pytest.approx(both)


def test_against_oneself_there_is_no_difference() -> None:
    one = result(task("copa", bits("++-"), 0.5))
    found = compare(one, one, NAMES)
    assert found.difference == 0.0 and found.interval == (0.0, 0.0)


def test_the_other_way_round_signs_change() -> None:
    first, second = result(task("copa", bits("+-+-+"), 0.5)), result(task("copa", bits("+++--"), 0.5))
    one, other = compare(first, second, NAMES), compare(second, first, NAMES)
    assert one.difference == -other.difference
    assert one.tasks[0].accuracies == other.tasks[0].accuracies[::-1]


def test_rows_are_matched_by_their_number_and_not_by_their_place() -> None:
    """The second has scored other rows, in another order."""
    first = result(task("copa", bits("+-+-")))  # rows 0 to 3
    shuffled = result(task("copa", bits("+++"), first_row=2))  # rows 2 to 4
    shuffled["tasks"][0]["outcomes"].reverse()
    found = compare(first, shuffled, NAMES)
    assert found.tasks[0].rows == 2 and found.tasks[0].accuracies == (0.5, 1.0)
    assert found.difference == pytest.approx(0.5)


def test_where_rows_are_hard_for_both_the_pair_is_sharper() -> None:
    """Two models that differ in one row of twenty: what decides most rows is the row."""
    generator = random.Random(2)
    easy = [generator.random() < 0.6 for _ in range(400)]
    better = [right or generator.random() < 0.1 for right in easy]
    found = compare(result(task("copa", easy)), result(task("copa", better)), NAMES)
    paired = found.interval.high - found.interval.low
    alone = [mean_interval([[float(right) for right in each]]) for each in (easy, better)]
    assert all(paired < 0.6 * (interval.high - interval.low) for interval in alone)
    assert found.interval.low > 0  # certain here, and not from the two scores
    assert alone[0].high > alone[1].low


def test_independent_rows_give_the_interval_of_two_samples() -> None:
    generator = random.Random(4)
    first, second = ([generator.random() < 0.5 for _ in range(500)] for _ in range(2))
    found = compare(result(task("copa", first)), result(task("copa", second)), NAMES)
    variance = sum(fmean(each) * (1 - fmean(each)) / 500 for each in (first, second))
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.12)


def test_tasks_of_one_alone_are_named_and_count_nothing() -> None:
    shared = task("copa", bits("+-"), 0.5)
    first = result(shared, task("arc_easy", bits("++")), task("hellaswag", bits("+"), shots=0))
    second = result(task("boolq", bits("--")), shared, task("hellaswag", bits("-"), shots=10))
    found = compare(first, second, NAMES)
    assert [each.label for each in found.tasks] == ["copa"] and found.difference == 0.0
    assert found.alone == ("arc_easy", "boolq", "hellaswag")


def test_written_answers_compare_too() -> None:
    def written(correct: str, say: str) -> dict[str, Any]:
        rows = tuple(Written(row, right, say, "7") for row, right in enumerate(bits(correct)))
        return result(TaskResult("gsm8k", "sum", 0, 0.0, rows), metric="chatcore")

    found = compare(written("+-", "one"), written("++", "two"), NAMES)
    assert (found.metric, found.difference) == ("chatcore", 0.5)


def test_other_suites_and_other_rows_cannot_be_compared() -> None:
    one = result(task("copa", bits("+-")))
    with pytest.raises(UserError, match="a.json is of suite core, b.json of chatcore"):
        compare(one, result(task("copa", bits("+-")), metric="chatcore"), NAMES)
    with pytest.raises(UserError, match="a.json and b.json have no row of a task in common"):
        compare(one, result(task("boolq", bits("+-"))), NAMES)
    with pytest.raises(UserError, match="no row of a task in common"):
        compare(one, result(task("copa", bits("+-"), first_row=2)), NAMES)
    with pytest.raises(UserError, match="no row of a task in common"):
        compare(one, {"suite": "core", "tasks": []}, NAMES)


def test_rows_of_another_bundle_are_not_the_same_rows() -> None:
    one, other = result(task("copa", bits("+-"))), result(task("copa", bits("+-")))
    other["tasks"][0]["outcomes"][1]["gold"] = 1
    with pytest.raises(UserError, match="a.json and b.json have other rows in copa"):
        compare(one, other, NAMES)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("suite"),
        lambda values: values.pop("tasks"),
        lambda values: values.update(tasks=None),
        lambda values: values.update(tasks=["copa"]),
        lambda values: values["tasks"][0].pop("outcomes"),
        lambda values: values["tasks"][0].update(outcomes=[True]),
        lambda values: values["tasks"][0]["outcomes"][0].update(row="x"),
        lambda values: values["tasks"][0]["outcomes"][0].pop("correct"),
        lambda values: values["tasks"][0].update(random_baseline=None),
        lambda values: values["tasks"][0].update(random_baseline=1.0),
    ],
)
def test_what_is_no_result_is_told_in_a_line(change: Any) -> None:
    good, bad = result(task("copa", bits("+-"))), result(task("copa", bits("+-")))
    change(bad)
    with pytest.raises(UserError, match="b.json: holds no tasks with rows to compare") as caught:
        compare(good, bad, NAMES)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="a.json: "):
        compare(bad, good, NAMES)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(content: bytes | None, message: str) -> None:
        path = tmp_path / "scores.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read_results(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    refused(None, "no such file; give files that vnc evaluate --json has written, or checkpoints")
    refused(b"[1]", "not what vnc evaluate --json writes")
    refused(b'{"suite": ', "cannot be read")
    refused(b"\xff\xfe{}", "cannot be read")
    refused(b"", "cannot be read")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path / "folder")


def test_the_comparison_as_json() -> None:
    found = compare(result(task("copa", bits("+-"), 0.5)), result(task("copa", bits("++"), 0.5)), NAMES)
    values = json.loads(json.dumps(as_dict(found)))
    assert (values["suite"], values["difference"], values["alone"]) == ("core", 1.0, [])
    assert values["interval"] == list(found.interval)
    assert values["tasks"] == [
        {"label": "copa", "num_fewshot": 0, "rows": 2, "accuracies": [0.5, 1.0], "difference": 1.0,
         "interval": list(found.tasks[0].interval)}
    ]  # fmt: skip
