"""Both layouts of a folder of tests, and what is refused in them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vnc.errors import UserError
from vnc.evals.chatcore.tasks import CodeTask, LetterQuestion, LetterTask, Sum, read_chat_tasks

MMLU = [
    {"question": "2 + 2?", "choices": ["3", "4", "5", "6"], "answer": 1, "subject": "sums"},
    {"question": "Up?", "choices": ["a", "b", "c", "d"], "answer": 3, "subject": "ways"},
]
ARC = [
    {"question": "What barks?", "choices": ["dog", "cat", "owl"], "letters": ["1", "2", "3"], "answerKey": "2"},
    {"question": "What flies?", "choices": ["dog", "cat", "owl", "pig"], "letters": list("ABCD"), "answerKey": "C"},
]
GSM8K = [{"question": "How many?", "answer": "48/2 = <<48/2=24>>24\n#### 1,024"}]
PROBLEM = {
    "task_id": "X/0",
    "prompt": "def one():\n",
    "canonical_solution": "    return 1\n",
    "test": "def check(f):\n    assert f() == 1\n",
    "entry_point": "one",
}


def write_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    folder = tmp_path / "flat"
    for name, rows in {"mmlu": MMLU, "arc_easy": ARC, "arc_challenge": ARC, "gsm8k": GSM8K}.items():
        write_lines(folder / f"{name}_test.jsonl", rows)
    (folder / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(PROBLEM).encode()))
    return folder


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """As the Hub's rows come: ARC's choices as one struct."""
    folder = tmp_path / "prepared"
    hub = [
        {"id": "x", "question": row["question"], "answerKey": row["answerKey"]}
        | {"choices": {"text": row["choices"], "label": row["letters"]}}
        for row in ARC
    ]
    tables = {"mmlu": MMLU, "arc_easy": hub, "arc_challenge": hub, "gsm8k": GSM8K, "humaneval": [PROBLEM]}
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name / "test.parquet")
    return folder


def test_both_layouts_give_the_same_tasks(flat: Path, prepared: Path) -> None:
    tasks = read_chat_tasks(flat)
    assert tasks == read_chat_tasks(prepared) and not tasks.left_out
    assert [task.label for task in tasks.tasks] == [
        "mmlu",
        "arc_easy",
        "arc_challenge",
        "gsm8k",
        "humaneval",
        "spelling",
    ]
    mmlu, easy, _, gsm8k, humaneval, spelling = tasks.tasks
    assert isinstance(mmlu, LetterTask) and mmlu.baseline == 0.25
    assert mmlu.rows[0] == LetterQuestion("2 + 2?", ("3", "4", "5", "6"), 1)
    assert isinstance(easy, LetterTask) and easy.baseline == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert easy.rows[0].gold == 1
    assert gsm8k.rows == (Sum("How many?", "1024"),)
    assert isinstance(humaneval, CodeTask) and humaneval.rows[0].entry_point == "one"
    assert len(spelling.rows) == 256


def test_some_tasks_only_and_missing_ones_by_name(flat: Path) -> None:
    (flat / "mmlu_test.jsonl").unlink()
    tasks = read_chat_tasks(flat, ["spelling", "mmlu", "gsm8k"])
    assert [task.label for task in tasks.tasks] == ["gsm8k", "spelling"]
    [left] = tasks.left_out
    assert left.label == "mmlu" and "mmlu_test.jsonl" in left.reason and str(flat) in left.reason
    with pytest.raises(UserError, match="no task 'gsm9k'; it has mmlu, "):
        read_chat_tasks(flat, ["gsm9k"])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_chat_tasks(flat / "nowhere")


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("mmlu", MMLU[0] | {"answer": 4}, "line 2: key 'answer' must be a whole number from 0 to 3"),
        ("mmlu", MMLU[0] | {"answer": True}, "line 2: key 'answer'"),
        ("mmlu", MMLU[0] | {"choices": ["x"]}, "line 2: key 'choices' must be a list of 2 to 26 strings"),
        ("mmlu", MMLU[0] | {"choices": "xyz"}, "line 2: key 'choices' must be a list of strings"),
        ("mmlu", {"choices": ["a", "b"], "answer": 0}, "line 2: key 'question' must be a string, found none"),
        ("arc_easy", ARC[0] | {"answerKey": "D"}, "line 2: key 'answerKey' must be one of the labels of 3 choices"),
        ("arc_easy", ARC[0] | {"letters": ["1", "1", "2"], "answerKey": "1"}, "line 2: key 'answerKey'"),
        ("arc_easy", ARC[0] | {"letters": None}, "line 2: key 'letters' must be a list of strings"),
        ("gsm8k", GSM8K[0] | {"answer": "72"}, "line 2: key 'answer' must be a text with '#### '"),
    ],
)
def test_a_broken_row_is_named(flat: Path, name: str, row: dict[str, Any], message: str) -> None:
    path = flat / f"{name}_test.jsonl"
    write_lines(path, [{"mmlu": MMLU, "arc_easy": ARC, "gsm8k": GSM8K}[name][0], row])
    with pytest.raises(UserError, match=f"{path}, {message}".replace("#", r"\#")):
        read_chat_tasks(flat)


def test_a_broken_parquet_file_is_named(prepared: Path) -> None:
    path = prepared / "gsm8k/test.parquet"
    pq.write_table(pa.Table.from_pylist([GSM8K[0], {"question": "?", "answer": None}]), path)
    with pytest.raises(UserError, match="test.parquet, row 1: key 'answer' must be a string, found null"):
        read_chat_tasks(prepared)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="test.parquet: not a whole Parquet file"):
        read_chat_tasks(prepared)


def test_the_shared_data_is_read_whole(shared_data: Path) -> None:
    tasks = read_chat_tasks(shared_data / "chat")
    rows = {task.label: len(task.rows) for task in tasks.tasks}
    assert rows == {
        **{"mmlu": 1940, "arc_easy": 1500, "arc_challenge": 1172, "gsm8k": 1319, "humaneval": 164, "spelling": 256}
    }
    easy = tasks.tasks[1]
    assert isinstance(easy, LetterTask) and easy.baseline == pytest.approx(0.25, abs=0.002)
