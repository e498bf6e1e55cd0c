"""Opening what a user's list asks for: which files are trained on, which validate, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.tasks.spec import TaskSpec, open_task
from datamodules.tasks.task import HELD_OUT_MOST, Task, hold_out
from vnc.conversation import Conversation
from vnc.errors import UserError


def sums(path: Path, count: int, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"question": f"What is {n} + 1?", "answer": f"<<{n}+1={n + 1}>>{n + 1}"} for n in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(task: Task) -> list[str]:
    return [task.conversation(index).messages[0].segments[0].text for index in range(len(task))]


def test_a_split_of_its_own_validates(tmp_path: Path) -> None:
    sums(tmp_path / "gsm8k" / "train.jsonl", 30)
    sums(tmp_path / "gsm8k" / "test.jsonl", 5, first=100)
    opened = open_task(TaskSpec("gsm8k"), tmp_path)
    assert (len(opened.train), len(opened.validation)) == (30, 5)
    assert questions(opened.validation)[0] == "What is 100 + 1?"
    sums(tmp_path / "gsm8k" / "validation.jsonl", 4, first=200)
    assert questions(open_task(TaskSpec("gsm8k"), tmp_path).validation)[0] == "What is 200 + 1?"
    reversed_roles = open_task(TaskSpec("gsm8k", split="validation"), tmp_path)
    assert (len(reversed_roles.train), len(reversed_roles.validation)) == (4, 5)


def test_without_one_some_conversations_are_held_out(tmp_path: Path) -> None:
    path = sums(tmp_path / "gsm8k" / "train.jsonl", 100)
    opened = open_task(TaskSpec("gsm8k"), tmp_path)
    training, validation = questions(opened.train), questions(opened.validation)
    assert (len(training), len(validation)) == (95, 5)
    assert sorted(training + validation) == sorted(f"What is {n} + 1?" for n in range(100))
    again = open_task(TaskSpec("gsm8k", path=str(path)), tmp_path / "elsewhere")
    assert questions(again.validation) == validation and again.identity == opened.identity
    assert str(tmp_path) not in opened.identity
    sums(path, 101)
    assert open_task(TaskSpec("gsm8k"), tmp_path).identity != opened.identity


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (19, 1), (40, 2), (59, 2), (30_000, HELD_OUT_MOST)])
def test_how_many_are_held_out(count: int, held: int) -> None:
    class Numbers:
        name = "numbers"

        def __len__(self) -> int:
            return count

        def conversation(self, index: int) -> Conversation:
            raise AssertionError

    training, validation = hold_out(Numbers())
    assert len(validation) == held and len(training) == count - held
    if held:
        both = np.concatenate([training.indices, validation.indices])  # type: ignore[attr-defined]
        assert sorted(both.tolist()) == list(range(count))


def test_tasks_that_are_made_up_need_no_files(tmp_path: Path) -> None:
    for name in ("spelling", "tinyworld"):
        opened = open_task(TaskSpec(name, size=400), tmp_path / "absent")  # type: ignore[arg-type]
        assert (len(opened.train), len(opened.validation)) == (400, 20)
        assert not set(questions(opened.train)) & set(questions(opened.validation)) or name == "tinyworld"
        assert len(open_task(TaskSpec(name), tmp_path).train) == 10_000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (dict(task="poems"), "no task 'poems'; there are smoltalk, mmlu"),
        (dict(task="gsm8k", epochs=0), "gsm8k: epochs=0: must be above 0"),
        (dict(task="gsm8k", epochs=float("inf")), "epochs=inf"),
        (dict(task="gsm8k", epochs=float("nan")), "epochs=nan"),
        (dict(task="gsm8k", weight=-1.0), "weight=-1.0: must be above 0"),
        (dict(task="spelling", size=0), "size=0: must be above 0"),
        (dict(task="spelling", path="x.jsonl"), "made up and reads no files"),
        (dict(task="tinyworld", split="train"), "made up and reads no files"),
        (dict(task="gsm8k", size=10), "size is for tasks that are made up"),
        (dict(task="json"), "json: it needs path: your file of conversations"),
    ],
)
def test_a_request_that_makes_no_sense(wanted: Any, problem: str) -> None:
    with pytest.raises(UserError, match=f"--data.tasks.*{re.escape(problem)}") as caught:
        TaskSpec(**wanted)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"gsm8k/train.parquet \(or .jsonl\): no such file .*`vnc prepare task_mixture`"
    ):
        open_task(TaskSpec("gsm8k"), tmp_path)
    with pytest.raises(UserError, match=r"mmlu/auxiliary_train.parquet .*`vnc prepare"):
        open_task(TaskSpec("mmlu"), tmp_path)
    sums(tmp_path / "gsm8k" / "test.jsonl", 5)
    with pytest.raises(UserError, match=r"no such file for task gsm8k \(there are test.jsonl\)"):
        open_task(TaskSpec("gsm8k"), tmp_path)
    with pytest.raises(UserError, match="talk.jsonl: no such file; name one"):
        open_task(TaskSpec("json", path=str(tmp_path / "talk.jsonl")), tmp_path)
    with pytest.raises(UserError, match=r"mine/train.parquet .*name a file with path"):
        open_task(TaskSpec("json", path=str(tmp_path / "mine")), tmp_path)
    with pytest.raises(UserError, match="split is for a folder of splits"):
        open_task(TaskSpec("json", path=str(tmp_path / "talk.jsonl"), split="train"), tmp_path)


def test_a_split_that_is_there_twice_is_read_from_parquet(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "smoltalk").mkdir()
    shutil.copy(shared_data / "chat" / "smoltalk_like.parquet", tmp_path / "smoltalk" / "train.parquet")
    sums(tmp_path / "smoltalk" / "train.jsonl", 3)
    opened = open_task(TaskSpec("smoltalk"), tmp_path)
    assert len(opened.train) + len(opened.validation) == 2_974
