"""Reading bundles: TinyWorld's, the real one, and every way in which one can be wrong."""

import json
from pathlib import Path

import pytest
import yaml

from tests.vnc.evals.conftest import ROWS
from vnc.errors import UserError
from vnc.evals.bundle import LeftOut, Writing, read_bundle
from vnc.evals.examples import Code, Generation, LanguageModeling, MultipleChoice, Schema
from vnc.tinyworld.tasks import TASKS
from vnc.tinyworld.tasks import write_bundle as write_tinyworld


def test_tasks_rows_and_baselines(bundle: Path) -> None:
    read = read_bundle(bundle)
    assert [(task.label, task.kind, task.num_fewshot, task.baseline) for task in read.tasks] == [
        ("multiple_choice", "multiple_choice", 2, 0.25),
        ("schema", "schema", 2, 0.5),
        ("language_modeling", "language_modeling", 2, 0.0),
    ]
    assert [task.delimiter for task in read.tasks] == [" ", "\nA: ", " "]
    assert read.left_out == ()
    classes = {"multiple_choice": MultipleChoice, "schema": Schema, "language_modeling": LanguageModeling}
    for task in read.tasks:
        rows = ROWS[task.kind]()
        assert len(task.examples) == len(rows)
        for example, row in zip(task.examples, rows, strict=True):
            assert type(example) is classes[task.kind]
            assert json.loads(json.dumps(vars(example))) == row


def test_tinyworld(tmp_path: Path) -> None:
    write_tinyworld(tmp_path)
    read = read_bundle(tmp_path)
    assert [task.label for task in read.tasks] == [task.label for task in TASKS]
    assert {task.kind for task in read.tasks} == {"multiple_choice", "schema", "language_modeling"}


def test_some_tasks_only(bundle: Path) -> None:
    read = read_bundle(bundle, ["language_modeling", "schema"])
    assert [task.label for task in read.tasks] == ["schema", "language_modeling"]  # in the order of the list
    with pytest.raises(UserError, match=r"core.yaml has no task 'scheme'; it has multiple_choice, schema"):
        read_bundle(bundle, ["scheme"])


def test_several_numbers_of_solved_examples_are_several_tasks(bundle: Path) -> None:
    edit(bundle, 0, num_fewshot=[0, 5])
    assert [(task.label, task.num_fewshot) for task in read_bundle(bundle).tasks[:2]] == [
        ("multiple_choice", 0),
        ("multiple_choice", 5),
    ]


def test_a_task_without_data_is_left_out_by_name(bundle: Path) -> None:
    (bundle / "eval_data/small/schema.jsonl").unlink()
    read = read_bundle(bundle)
    assert [task.label for task in read.tasks] == ["multiple_choice", "language_modeling"]
    assert read.left_out == (LeftOut("schema", "eval_data/small/schema.jsonl is not in the bundle"),)
    with pytest.raises(UserError, match="data of all its tasks is missing"):
        read_bundle(bundle, ["schema"])


def edit(bundle: Path, number: int, **changes: object) -> None:
    path = bundle / "core.yaml"
    content = yaml.safe_load(path.read_text())
    content["icl_tasks"][number] |= changes
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"icl_task_type": "generation"}, r"task 1 \(multiple_choice\): icl_task_type 'generation' is not known"),
        ({"num_fewshot": 3}, "'num_fewshot' must be a list such as .10., found 3"),
        ({"num_fewshot": [-1]}, "'num_fewshot'"),
        ({"label": 7}, "'label' must be a string, found 7"),
        ({"continuation_delimiter": None}, "'continuation_delimiter' must be a string, found null"),
        ({"prompt_string": "x"}, "key 'prompt_string' is not known; known are"),
        ({"label": "schema"}, "'schema' stands there twice"),
        ({"label": "other"}, "eval_meta_data.csv has no row for the task 'other'"),
        ({"early_stopping_criteria": "Q:"}, "'early_stopping_criteria' must be a list of strings, found \"Q:\""),
        ({"early_stopping_criteria": ["Q:", ""]}, "'early_stopping_criteria' must be a list of strings"),
        ({"early_stopping_criteria": [1]}, "'early_stopping_criteria' must be .* found .1."),
        ({"early_stopping_criteria": None}, "'early_stopping_criteria' must be .* found null"),
        ({"cot_delimiter": 3}, "'cot_delimiter' must be a string, found 3"),
        ({"question_prelimiter": ["Q"]}, "'question_prelimiter' must be a string"),
        ({"do_normalization": "no"}, "'do_normalization' must be true or false, found \"no\""),
        ({"do_normalization": 0}, "'do_normalization' must be true or false, found 0"),
    ],
)
def test_wrong_entries_are_named(bundle: Path, changes: dict[str, object], message: str) -> None:
    edit(bundle, 0, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("multiple_choice", '{"query": "a", "choices": ["b", "c"], "gold": 2}', "'gold' must be .* 0 to 1, found 2"),
        ("multiple_choice", '{"query": "a", "choices": ["b", "c"], "gold": "0"}', "'gold' must be .*, found \"0\""),
        ("multiple_choice", '{"query": "a", "choices": ["b"], "gold": 0}', "'choices' must be a list of two or more"),
        ("multiple_choice", '{"query": "a", "choices": ["b", 3], "gold": 0}', "'choices' must be .* strings"),
        ("multiple_choice", '{"choices": ["b", "c"], "gold": 0}', "'query' must be a string, found none"),
        ("schema", '{"context_options": "ab", "continuation": "c", "gold": 0}', "'context_options' must be a list"),
        ("language_modeling", '{"context": "a", "continuation": ""}', "'continuation' is empty"),
        ("language_modeling", '{"context": null, "continuation": "b"}', "'context' must be a string, found null"),
        ("language_modeling", "[1]", "must be a JSON object, not list"),
        ("language_modeling", '{"context": "a"', "line 2: .*delimiter"),
    ],
)
def test_wrong_rows_are_named_by_line_and_key(bundle: Path, kind: str, row: str, message: str) -> None:
    path = bundle / f"eval_data/small/{kind}.jsonl"
    path.write_text(path.read_text().split("\n", 1)[0] + f"\n{row}\n")
    with pytest.raises(UserError, match=rf"{kind}.jsonl, line 2: .*{message.removeprefix('line 2: ')}") as caught:
        read_bundle(bundle)
    assert "\n" not in str(caught.value)


def write_task(bundle: Path, kind: str, rows: list[dict[str, object]], **keys: object) -> Path:
    """The bundle, with a task of this kind in place of its first."""
    edit(bundle, 0, icl_task_type=kind, **keys)
    path = bundle / "eval_data/small/multiple_choice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


GENERATION = {"context": "Who?", "answer": "Mara"}
CODE = {"prompt": "def f(x):\n", "canonical_solution": "    return x\n", "entry_point": "f",
        "test_inputs": ["(1,)", "(2,)"], "test_outputs": ["1", "2"]}  # fmt: skip


def test_generation_rows_and_how_answers_are_read(bundle: Path) -> None:
    rows = [
        GENERATION,
        GENERATION | {"aliases": ["Mara", "", "Mara P.", "Mara P."], "chain_of_thought": "She did.", "more": 1},
    ]
    keys = {"cot_delimiter": " #### ", "question_prelimiter": "Q: ", "do_normalization": False,
            "early_stopping_criteria": ["\n\n", "Q:"]}  # fmt: skip
    write_task(bundle, "generation_task_with_answers", rows, **keys)
    task, other = read_bundle(bundle).tasks[:2]
    assert task.examples == (
        Generation("Who?", "Mara"),
        Generation("Who?", "Mara", ("Mara", "Mara P.", "Mara P."), "She did."),
    )
    second = task.examples[1]
    assert isinstance(second, Generation) and second.answers == ("Mara", "Mara P.")
    assert task.writing == Writing("Q: ", " #### ", False, ("\n\n", "Q:"))
    assert other.writing == Writing("", "", True, ())


def test_code_rows(bundle: Path) -> None:
    write_task(bundle, "code_evaluation", [CODE, CODE | {"language": "python", "task_id": "x"}])
    example = Code("def f(x):\n", "    return x\n", "f", ("(1,)", "(2,)"), ("1", "2"))
    assert read_bundle(bundle).tasks[0].examples == (example, example)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "a"}, "'context' must be a string, found none"),
        (GENERATION | {"context": 1}, "'context' must be a string, found 1"),
        ({"context": "a"}, "'answer' must be a string, found none"),
        (GENERATION | {"answer": ""}, "'answer' is empty: every text would begin with it"),
        (GENERATION | {"answer": 3}, "'answer' must be a string, found 3"),
        (GENERATION | {"aliases": "Mara"}, "'aliases' must be a list of strings, found \"Mara\""),
        (GENERATION | {"aliases": [1]}, "'aliases' must be a list of strings"),
        (GENERATION | {"aliases": None}, "'aliases' must be a list of strings, found null"),
        (GENERATION | {"chain_of_thought": None}, "'chain_of_thought' must be a string, found null"),
    ],
)
def test_wrong_generation_rows(bundle: Path, row: dict[str, object], message: str) -> None:
    write_task(bundle, "generation_task_with_answers", [GENERATION, row])
    with pytest.raises(UserError, match=rf"multiple_choice.jsonl, line 2: key {message}") as caught:
        read_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (CODE | {"language": "c++"}, r"language 'c\+\+': only python can be run"),
        (CODE | {"language": None}, "language None: only python can be run"),
        (CODE | {"prompt": None}, "'prompt' must be a string, found null"),
        (CODE | {"canonical_solution": []}, "'canonical_solution' must be a string"),
        (CODE | {"entry_point": 1}, "'entry_point' must be a string, found 1"),
        (CODE | {"entry_point": "f("}, "'entry_point' must be the name of a function, found \"f.\""),
        (CODE | {"test_inputs": []}, "'test_inputs' must be a list of one or more strings"),
        (CODE | {"test_inputs": [1, 2]}, "'test_inputs' must be a list of one or more strings"),
        (CODE | {"test_outputs": "1"}, "'test_outputs' must be a list of one or more strings"),
        (CODE | {"test_outputs": ["1"]}, "2 test_inputs but 1 test_outputs"),
    ],
)
def test_wrong_code_rows(bundle: Path, row: dict[str, object], message: str) -> None:
    write_task(bundle, "code_evaluation", [CODE, row])
    with pytest.raises(UserError, match=rf"multiple_choice.jsonl, line 2: .*{message}") as caught:
        read_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", sorted(CODE))
def test_code_rows_need_all_keys(bundle: Path, key: str) -> None:
    write_task(bundle, "code_evaluation", [{name: value for name, value in CODE.items() if name != key}])
    with pytest.raises(UserError, match=f"line 1: key '{key}' must be .*, found none"):
        read_bundle(bundle)


def test_rows_name_their_categories_where_the_list_says_so(bundle: Path) -> None:
    rows = [{"context": "a", "continuation": "b", "category": "law"}, {"context": "c", "continuation": "d"}]
    write_task(bundle, "language_modeling", rows, has_categories=True, num_fewshot=[0])
    assert read_bundle(bundle).tasks[0].categories == ("law", "")
    edit(bundle, 0, has_categories=False)
    assert read_bundle(bundle).tasks[0].categories == ()


def test_wrong_files_are_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is no bundle: it has no core.yaml"):
        read_bundle(tmp_path / "empty")

    def broken(file: str, content: bytes, message: str) -> None:
        path = bundle / file
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read_bundle(bundle)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        path.write_bytes(before)

    broken("core.yaml", b"icl_tasks: [", "is not YAML")
    broken("core.yaml", b"icl_tasks: []", "needs a key icl_tasks")
    broken("core.yaml", b"- a", "needs a key icl_tasks")
    broken("core.yaml", b"icl_tasks: [a]", "task 1 .without a label.: must be a mapping")
    broken("eval_meta_data.csv", b"Task,Random baseline\nschema,50\n", "no column 'Eval Task'")
    broken("eval_meta_data.csv", b"Eval Task,Random baseline\nschema,half\n", "line 2: .* found 'half'")
    broken("eval_meta_data.csv", b"Eval Task,Random baseline\nschema,100\n", "below 100, found '100'")
    broken("eval_data/small/schema.jsonl", b"\n \n", "no rows")
    broken("eval_data/small/schema.jsonl", b"\xff\xfe", "cannot be read")
    (bundle / "eval_meta_data.csv").unlink()
    with pytest.raises(UserError, match="has no eval_meta_data.csv"):
        read_bundle(bundle)


def test_the_real_bundle(shared_data: Path) -> None:
    read = read_bundle(shared_data / "eval_bundle")
    assert len(read.tasks) == 22 and read.left_out == ()
    by_label = {task.label: task for task in read.tasks}
    assert by_label["jeopardy"].delimiter == "\nAnswer: "
    assert by_label["boolq"].baseline == pytest.approx(0.62)
    assert (by_label["piqa"].num_fewshot, len(by_label["piqa"].examples)) == (10, 1500)
