"""The bundle: its layout, its golds against the world, and that training text never holds what it asks."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from vnc.tinyworld import phrasings
from vnc.tinyworld.conversations import conversation
from vnc.tinyworld.stories import story
from vnc.tinyworld.tasks import TASKS, write_bundle
from vnc.tinyworld.world import NUMBERS, OPPOSITE, PEOPLE, PERSON, TOWN, day_after, day_before

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def tasks(bundle: Path) -> dict[str, Rows]:
    """The rows of each task, read back from the files that core.yaml names."""
    entries = yaml.safe_load((bundle / "core.yaml").read_text())["icl_tasks"]
    files = {entry["label"]: bundle / "eval_data" / entry["dataset_uri"] for entry in entries}
    return {label: [json.loads(line) for line in file.read_text().splitlines()] for label, file in files.items()}


def test_layout(bundle: Path, tasks: dict[str, Rows]) -> None:
    entries = yaml.safe_load((bundle / "core.yaml").read_text())["icl_tasks"]
    table = {row["Eval Task"]: row for row in csv.DictReader((bundle / "eval_meta_data.csv").open(newline=""))}
    assert [entry["label"] for entry in entries] == list(table) == [task.label for task in TASKS]
    keys = {
        "multiple_choice": {"query", "choices", "gold"},
        "schema": {"context_options", "continuation", "gold"},
        "language_modeling": {"context", "continuation"},
    }
    guess = {"multiple_choice": 25, "schema": 50, "language_modeling": 0}
    for entry in entries:
        kind, rows, line = entry["icl_task_type"], tasks[entry["label"]], table[entry["label"]]
        assert entry["num_fewshot"] == [0] and set(entry) == {"label", "dataset_uri", "num_fewshot", "icl_task_type"}
        assert 50 <= len(rows) <= 200 and all(set(row) == keys[kind] for row in rows)
        assert float(line["Random baseline"]) == guess[kind] and int(line["#datapoints"]) == len(rows)


def test_columns_are_those_of_the_real_bundle(bundle: Path, shared_data: Path) -> None:
    with (shared_data / "eval_bundle" / "eval_meta_data.csv").open(newline="", encoding="utf-8") as file:
        assert (bundle / "eval_meta_data.csv").read_text().splitlines()[0].split(",") == next(csv.reader(file))


def test_same_bytes_every_time(bundle: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again")
    for file in bundle.rglob("*.*"):
        assert (tmp_path / "again" / file.relative_to(bundle)).read_bytes() == file.read_bytes()


def test_choices_differ_and_every_place_is_gold_equally_often(tasks: dict[str, Rows]) -> None:
    for label, rows in tasks.items():
        options = [row.get("choices") or row.get("context_options") for row in rows]
        if None in options:
            continue
        assert all(len(set(row)) == len(row) == len(options[0]) for row in options)
        golds = Counter(row["gold"] for row in rows)
        assert max(golds.values()) - min(golds.values()) <= 1 + len(rows) // 20 and len(golds) == len(options[0]), label
        assert len({json.dumps(row) for row in rows}) == len(rows)


def gold(row: dict[str, Any]) -> str:
    return row["choices"][row["gold"]] if "choices" in row else row["continuation"]


def subject(text: str, names: dict[str, Any]) -> Any:
    """The one name in the text that is among `names`."""
    [name] = {word for word in re.findall(r"[A-Z]\w+", text) if word in names}
    return names[name]


def truth(label: str, query: str) -> set[str]:
    """All right answers, from the world table alone."""
    pets, jobs = {p.pet: p for p in PEOPLE}, {p.job: p for p in PEOPLE}
    match label.removeprefix("tinyworld_"):
        case "two_steps" if "find the" in query:
            return {jobs[re.search(r"find the (\w+)", query)[1]].town}  # type: ignore[index]
        case "two_steps":
            return {subject(query, pets).town}
        case "home_town":
            return {subject(query, PERSON).town}
        case "job":
            return {subject(query, PERSON).job}
        case "pet":
            return {subject(query, PERSON).kind}
        case "favourites":
            return {subject(query, PERSON).colour, subject(query, PERSON).food}
        case "pet_names":
            assert subject(query, PERSON).kind in query
            return {subject(query, PERSON).pet}
        case "towns":
            return {*subject(query, TOWN).neighbours, subject(query, TOWN).landmark}
        case "sums":
            p, q = (NUMBERS.index(word) for word in query.lower().split() if word in NUMBERS)
            return {NUMBERS[p + q]}
    raise AssertionError(label)


def test_golds_are_true_and_wrong_answers_false(tasks: dict[str, Rows]) -> None:
    special = {"tinyworld_days", "tinyworld_whose", "tinyworld_sequences", "tinyworld_opposites"}
    for label in tasks.keys() - special:
        for row in tasks[label]:
            right = truth(label, row.get("query") or row["context"])
            assert gold(row) in right, row
            assert not right & (set(row.get("choices", ())) - {gold(row)}), row


def test_golds_of_days_opposites_and_sequences(tasks: dict[str, Rows]) -> None:
    for row in tasks["tinyworld_days"]:
        [day] = re.findall(r"\w+day\b(?<!birthday)", re.sub(r"\b(this|the last|next) day\b", "", row["query"]))
        backwards = "before" in row["query"]
        assert gold(row) == (day_before if backwards else day_after)(day), row
    for row in tasks["tinyworld_opposites"]:
        [word] = re.findall(r"not (\w+) but|that (\w+) is", row["query"])
        assert gold(row) == OPPOSITE["".join(word)], row
    for row in tasks["tinyworld_sequences"]:
        last = row["context"].rstrip(",").split()[-1]
        expected = day_after(last) if last.endswith("day") else NUMBERS[NUMBERS.index(last) + 1]
        assert row["continuation"] == expected


def test_golds_of_whose(tasks: dict[str, Rows]) -> None:
    for row in tasks["tinyworld_whose"]:
        people = [subject(context, PERSON) for context in row["context_options"]]
        true = [row["continuation"] in (person.town, person.pet, person.kind) for person in people]
        assert true.index(True) == row["gold"] and sum(true) == 1


@pytest.fixture(scope="module")
def training_text() -> str:
    """20,000 stories and 20,000 conversations."""
    chats = (
        segment.text for i in range(20_000) for message in conversation(i).messages for segment in message.segments
    )
    return "\n".join([*(story(index).text for index in range(20_000)), *chats])


def templates() -> list[str]:
    found: list[str] = []
    for name, value in vars(phrasings).items():
        if name.isupper():
            values = [value] if isinstance(value, str) else value
            found += [one if isinstance(one, str) else one[0] for one in values]
    return found


def test_training_text_never_holds_a_phrasing(training_text: str) -> None:
    """Neither with any words in the slots, nor (where it is of three words or more) its longest stretch without one."""
    assert len(templates()) > 25
    for template in templates():
        stretch = max(re.split(r"\{\w+\}", template), key=len).strip()
        assert len(stretch.split()) >= 3, template
        assert stretch not in training_text, stretch


def test_training_text_never_holds_a_row(tasks: dict[str, Rows], training_text: str) -> None:
    for rows in tasks.values():
        for row in rows:
            context = row.get("query") or row.get("context") or row["context_options"][row["gold"]]
            assert f"{context} {gold(row)}" not in training_text


def test_queries_use_words_of_the_stories(tasks: dict[str, Rows], training_text: str) -> None:
    """A small model can only be asked in words that it has read."""
    read = set(re.findall(r"\w+", training_text))
    asked = Counter(
        word
        for rows in tasks.values()
        for row in rows
        for word in re.findall(r"\w+", row.get("query") or row.get("context") or row["context_options"][0])
    )
    assert not {word for word in asked if word not in read}
