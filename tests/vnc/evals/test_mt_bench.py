"""MT-Bench: what is asked of model and judge, the files, and the means."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.judge_server import Body, JudgeServer, Reply, asked
from vnc.conversation import Conversation, render_prompt
from vnc.errors import UserError
from vnc.evals.judge import Judge
from vnc.evals.mt_bench import MTBenchResult, evaluate_mt_bench, parse_rating
from vnc.evals.mt_bench_files import read_mt_bench
from vnc.tokenizer import Tokenizer

TEMPLATES = {
    "single-v1": "Q {question} A {answer} {{braces}}",
    "single-math-v1": "Q {question} R {ref_answer_1} A {answer}",
    "single-v1-multi-turn": "Q {question_1} A {answer_1} Q {question_2} A {answer_2}",
    "single-math-v1-multi-turn": "Q {question_1} R {ref_answer_1} Q {question_2} R {ref_answer_2} "
    "A {answer_1} A {answer_2}",
}


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_folder(folder: Path) -> Path:
    """Two questions with references (math), two without (writing, of which one is full of braces)."""
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["a poem", "a shorter one"]},
        {"question_id": 82, "category": "writing", "turns": ["{question} %s {0}", "{}"], "reference": ["x"]},
        {"question_id": 111, "category": "math", "turns": ["1 + 1", "and 1 more"]},
        {"question_id": 112, "category": "math", "turns": ["2 + 2", "and 2 more"]},
    ]
    references = [
        {"question_id": 111, "choices": [{"index": 0, "turns": ["two", "three"]}]},
        {"question_id": 112, "choices": [{"index": 0, "turns": ["four", "six"]}]},
    ]
    prompts = [{"name": name, "system_prompt": f"system of {name}", "prompt_template": template, "type": "single"}
               for name, template in TEMPLATES.items()]  # fmt: skip
    write_lines(folder / "question.jsonl", questions)
    write_lines(folder / "reference_answer" / "gpt-4.jsonl", references)
    write_lines(folder / "judge_prompts.jsonl", [{"name": "pair-v2", "prompt_template": "{other}"}, *prompts])
    return folder


class Model:
    """Says in which batch and at which place it was asked, and what the user had said last."""

    def __init__(self) -> None:
        self.batches: list[list[Conversation]] = []

    def __call__(self, conversations: Sequence[Conversation]) -> list[str]:
        self.batches.append(list(conversations))
        last = [conversation.to_dicts()[-1]["content"] for conversation in conversations]
        return [f"<{len(self.batches)}.{place} {text}>" for place, text in enumerate(last)]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mt_bench")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """Rates second turns 9 and first turns 4; math a point lower."""

    def judge(body: Body) -> Reply:
        name = body["messages"][0]["content"]
        return Reply(f"Fine. Rating: [[{(9 if 'multi-turn' in name else 4) - ('math' in name)}]]")

    with JudgeServer(judge) as server:
        yield server


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("judgment", "rating"),
    [
        ("Rating: [[7]]", 7),
        ("[[7.5]] of [[10]]", 7.5),
        ("[[10]]", 10),
        ("a list [3] and Rating: [[2]]", 2),
        ("Rating: [8]", 8),
        ("Rating: [[8]", 8),
        ("Rating: [[8.]]", 8),
        ("[[0]]", None),
        ("[[11]]", None),
        ("Rating: 8", None),
        ("[[rating]]", None),
        ("[[8/10]]", None),
        ("", None),
    ],
)
def test_ratings(judgment: str, rating: float | None) -> None:
    assert parse_rating(judgment) == rating


def test_second_turns_are_asked_after_all_first_ones_with_what_was_answered(folder: Path, tmp_path: Path) -> None:
    model = Model()
    evaluate_mt_bench(read_mt_bench(folder), model, "m", tmp_path / "out")
    first, second = ([conversation.to_dicts() for conversation in batch] for batch in model.batches)
    assert [[message["role"] for message in each] for each in second] == [["user", "assistant", "user"]] * 4
    assert first[2] == [{"role": "user", "content": "1 + 1"}]
    assert [message["content"] for message in second[2]] == ["1 + 1", "<1.2 1 + 1>", "and 1 more"]


def test_an_empty_answer_goes_into_the_second_turn(folder: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    seen: list[list[int]] = []

    def silent(conversations: Sequence[Conversation]) -> list[str]:
        seen.extend(render_prompt(conversation, tokenizer) for conversation in conversations)
        return [""] * len(conversations)

    result = evaluate_mt_bench(read_mt_bench(folder), silent, "m", tmp_path / "out")
    assert len(seen) == 8
    assert result.rated[0].answers == ("", "")


def test_without_a_judge_answers_are_saved(folder: Path, tmp_path: Path) -> None:
    result = evaluate_mt_bench(read_mt_bench(folder), Model(), "d4-step_100", tmp_path)
    rows = lines(tmp_path / "model_answer" / "d4-step_100.jsonl")
    assert [row["question_id"] for row in rows] == [81, 82, 111, 112]
    assert rows[1]["choices"] == [{"index": 0, "turns": ["<1.1 {question} %s {0}>", "<2.1 {}>"]}]
    assert {row["model_id"] for row in rows} == {"d4-step_100"}
    assert len({row["answer_id"] for row in rows}) == 4
    assert not (tmp_path / "model_judgment").exists()
    values = json.loads(json.dumps(result.as_dict()))
    assert values["mt_bench"] == "not judged"
    assert (values["judge"], values["judged"], values["without_verdict"]) == (None, 0, 0)
    assert (values["by_turn"], values["by_category"]) == ({}, {})
    assert values["outcomes"][2]["answers"] == ["<1.2 1 + 1>", "<2.2 and 1 more>"]


def test_what_the_judge_is_asked(folder: Path, tmp_path: Path, server: JudgeServer) -> None:
    evaluate_mt_bench(read_mt_bench(folder), Model(), "m", tmp_path, Judge(server.url, "j", workers=1))
    messages = [[message["content"] for message in body["messages"]] for body in server.bodies]
    assert len(messages) == 8
    assert messages[2] == ["system of single-v1", "Q {question} %s {0} A <1.1 {question} %s {0}> {braces}"]
    assert messages[3] == ["system of single-v1-multi-turn",
                           "Q {question} %s {0} A <1.1 {question} %s {0}> Q {} A <2.1 {}>"]  # fmt: skip
    assert messages[4] == ["system of single-math-v1", "Q 1 + 1 R two A <1.2 1 + 1>"]
    assert messages[5] == ["system of single-math-v1-multi-turn",
                           "Q 1 + 1 R two Q and 1 more R three A <1.2 1 + 1> A <2.2 and 1 more>"]  # fmt: skip


def test_means_and_the_file_of_judgments(folder: Path, tmp_path: Path, server: JudgeServer) -> None:
    done: list[int] = []
    judge = Judge(server.url, "org/j")
    result = evaluate_mt_bench(read_mt_bench(folder), Model(), "m", tmp_path, judge, done=done.append)
    assert sum(done) == 8
    assert result.by_turn() == {1: fmean([4, 4, 3, 3]), 2: fmean([9, 9, 8, 8])}
    assert result.by_category() == {"writing": 6.5, "math": 5.5}
    assert (result.score, result.judged, result.without_verdict) == (6.0, 8, 0)
    rows = lines(tmp_path / "model_judgment" / "org_j_single.jsonl")
    assert [(row["question_id"], row["turn"], row["score"]) for row in rows] == [
        (81, 1, 4), (81, 2, 9), (82, 1, 4), (82, 2, 9), (111, 1, 3), (111, 2, 8), (112, 1, 3), (112, 2, 8),
    ]  # fmt: skip
    assert rows[0]["judge"] == ["org/j", "single-v1"]
    assert rows[7]["judge"] == ["org/j", "single-math-v1-multi-turn"]
    assert rows[0]["user_prompt"] == "Q a poem A <1.0 a poem> {braces}"
    assert rows[0]["judgment"] == "Fine. Rating: [[4]]"
    outcome = json.loads(json.dumps(result.as_dict()))["outcomes"][3]
    assert outcome == {"question_id": 112, "category": "math", "answers": ["<1.3 2 + 2>", "<2.3 and 2 more>"],
                       "scores": [3, 8], "judgments": ["Fine. Rating: [[3]]", "Fine. Rating: [[8]]"]}  # fmt: skip


def test_no_verdict_is_no_bad_verdict(folder: Path, tmp_path: Path, server: JudgeServer) -> None:
    rate = server.judge
    server.judge = lambda body: Reply("No idea.") if "1 + 1" in asked(body) else rate(body)
    result = evaluate_mt_bench(read_mt_bench(folder), Model(), "m", tmp_path, Judge(server.url, "j"))
    assert (result.judged, result.without_verdict) == (6, 2)
    assert result.score == fmean([4, 9, 4, 9, 3, 8])
    assert result.by_category() == {"writing": 6.5, "math": 5.5}
    assert result.as_dict()["outcomes"][2]["scores"] == [None, None]
    scores = [row["score"] for row in lines(tmp_path / "model_judgment" / "j_single.jsonl")]
    assert scores == [4, 9, 4, 9, -1, -1, 3, 8]
    assert len(server.requests) == 8 + 2
    server.judge = lambda body: Reply("No idea.")
    result = evaluate_mt_bench(read_mt_bench(folder), Model(), "m", tmp_path / "2", Judge(server.url, "j"))
    assert (result.score, result.judged, result.without_verdict) == ("no verdict", 0, 8)
    assert result.by_turn() == {1: None, 2: None}
    json.dumps(result.as_dict())


def test_models_share_a_judges_file_and_nothing_is_lost(folder: Path, tmp_path: Path, server: JudgeServer) -> None:
    bench = read_mt_bench(folder)
    path = tmp_path / "model_judgment" / "j_single.jsonl"
    for model_id in ("a", "b", "a"):
        evaluate_mt_bench(bench, Model(), model_id, tmp_path, Judge(server.url, "j"))
    assert sorted(row["model"] for row in lines(path)) == ["a"] * 8 + ["b"] * 8
    before = path.read_text()
    server.judge = lambda body: Reply("[[1]]")
    evaluate_mt_bench(bench, Model(), "b", tmp_path, Judge(server.url, "j"))
    kept = [each.read_text() for each in path.parent.iterdir() if each != path]
    assert before in kept
    assert {row["score"] for row in lines(path) if row["model"] == "b"} == {1}
    assert {row["score"] for row in lines(path) if row["model"] == "a"} == {3, 4, 8, 9}


def test_the_second_run_pays_nothing_and_changes_nothing(folder: Path, tmp_path: Path, server: JudgeServer) -> None:
    results: list[MTBenchResult] = []
    files: list[dict[str, bytes]] = []
    for _ in range(2):
        judge = Judge(server.url, "j", cache=tmp_path / "cache.jsonl")
        results.append(evaluate_mt_bench(read_mt_bench(folder), Model(), "m", tmp_path / "out", judge))
        files.append({str(each): each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()})
    assert results[0] == results[1]
    assert files[0] == files[1]
    assert len(server.requests) == 8


def test_max_examples_draws_as_other_tasks_do(folder: Path, tmp_path: Path) -> None:
    from vnc.evals.prompts import scored_rows

    bench = read_mt_bench(folder)
    result = evaluate_mt_bench(bench, Model(), "m", tmp_path, max_examples=3)
    assert [each.question for each in result.rated] == [bench.questions[row] for row in sorted(scored_rows(4, 3))]
    with pytest.raises(UserError, match="max_examples=0"):
        evaluate_mt_bench(bench, Model(), "m", tmp_path, max_examples=0)


def test_a_model_id_that_names_no_file_is_told_before_any_work(folder: Path, tmp_path: Path) -> None:
    model = Model()
    with pytest.raises(UserError, match="model id 'runs/d4'"):
        evaluate_mt_bench(read_mt_bench(folder), model, "runs/d4", tmp_path)
    assert model.batches == []


MISTAKES = [
    ("question.jsonl", {"question_id": "81"}, r"line 1: key 'question_id' must be a whole number, found \"81\""),
    ("question.jsonl", {"category": ""}, "line 1: key 'category'"),
    ("question.jsonl", {"turns": ["one"]}, "line 1: key 'turns' must be a list of two turns"),
    ("question.jsonl", {"turns": "ab"}, "line 1: key 'turns' must be a list of two turns"),
    ("question.jsonl", {"question_id": 82}, "line 2: question_id 82 stands there twice"),
    ("reference_answer/gpt-4.jsonl", {"choices": []}, "line 1: key 'choices' must be a list with an object"),
    ("reference_answer/gpt-4.jsonl", {"choices": [{"turns": ["a"]}]}, "line 1: key 'choices' must be .* two turns"),
    ("reference_answer/gpt-4.jsonl", {"question_id": 999}, "has answers to math, but none to question 111"),
    ("judge_prompts.jsonl", {"name": "single-v1", "system_prompt": 3}, "line 1: key 'system_prompt'"),
    ("judge_prompts.jsonl", {"name": "single-v1", "system_prompt": "", "prompt_template": "{question"}, "no format"),
    ("judge_prompts.jsonl", {"name": "single-v1", "system_prompt": "", "prompt_template": "{question.x} {answer}"},
     r"of single-v1 must have the fields \['answer', 'question'\], found \['answer', 'question.x'\]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "said"), MISTAKES, ids=lambda each: str(each)[:40])
def test_mistakes_in_the_files_are_told_with_their_place(
    folder: Path, name: str, change: dict[str, Any], said: str
) -> None:
    rows = lines(folder / name)
    rows[0] |= change
    write_lines(folder / name, rows)
    with pytest.raises(UserError, match=said) as caught:
        read_mt_bench(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", ["question.jsonl", "reference_answer/gpt-4.jsonl", "judge_prompts.jsonl"])
def test_missing_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        read_mt_bench(folder)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_mt_bench(folder / "nowhere")


def test_missing_prompt(folder: Path) -> None:
    rows = lines(folder / "judge_prompts.jsonl")
    write_lines(folder / "judge_prompts.jsonl", rows[:-1])
    with pytest.raises(UserError, match="no prompt named 'single-math-v1-multi-turn'"):
        read_mt_bench(folder)


def plain_prompt(
    prompts: dict[str, Any], row: dict[str, Any], reference: list[str] | None, turn: int
) -> tuple[str, str]:
    """The judge's prompt put together by replacing its fields one after the other."""
    name = "single-" + ("math-" if reference else "") + "v1" + ("-multi-turn" if turn == 2 else "")
    text: str = prompts[name]["prompt_template"]
    values = {"question": row["turns"][0], "question_1": row["turns"][0], "question_2": row["turns"][1],
              "answer": f"<1 {row['question_id']}>", "answer_1": f"<1 {row['question_id']}>",
              "answer_2": f"<2 {row['question_id']}>"}  # fmt: skip
    values |= {f"ref_answer_{number + 1}": text for number, text in enumerate(reference or ())}
    pieces = re.split(r"\{(\w+)\}", text)
    return prompts[name]["system_prompt"], "".join(values[p] if n % 2 else p for n, p in enumerate(pieces))


def test_the_real_80_questions(shared_data: Path, tmp_path: Path) -> None:
    """All 160 prompts of the published folder, against an independent reading of its files."""
    folder = shared_data / "mt_bench"
    questions = lines(folder / "question.jsonl")
    references = {
        row["question_id"]: row["choices"][0]["turns"] for row in lines(folder / "reference_answer/gpt-4.jsonl")
    }
    prompts = {row["name"]: row for row in lines(folder / "judge_prompts.jsonl")}
    expected = {
        plain_prompt(prompts, row, references.get(row["question_id"]), turn): (row["question_id"], turn)
        for row in questions
        for turn in (1, 2)
    }
    ids = {row["turns"][turn]: row["question_id"] for row in questions for turn in (0, 1)}
    batches: list[int] = []

    def model(conversations: Sequence[Conversation]) -> list[str]:
        batches.append(len(conversations))
        return [f"<{len(batches)} {ids[each.to_dicts()[0]['content']]}>" for each in conversations]

    def judge(body: Body) -> Reply:
        number, turn = expected[body["messages"][0]["content"], asked(body)]
        return Reply(f"Rating: [[{1 + (number * turn) % 10}]]")

    with JudgeServer(judge) as server:
        result = evaluate_mt_bench(read_mt_bench(folder), model, "m", tmp_path, Judge(server.url, "j"))
        assert len(server.requests) == 160
    assert batches == [80, 80]
    ratings = {(row["question_id"], turn): 1 + (row["question_id"] * turn) % 10 for row in questions for turn in (1, 2)}
    assert result.score == pytest.approx(fmean(ratings.values()))
    for turn, mean in result.by_turn().items():
        assert mean == pytest.approx(fmean(value for (_, at), value in ratings.items() if at == turn))
    assert len(result.by_category()) == 8
    coding = [ratings[row["question_id"], turn] for row in questions if row["category"] == "coding" for turn in (1, 2)]
    assert result.by_category()["coding"] == pytest.approx(fmean(coding))
    # as FastChat's show_result reads it: rows other than -1, grouped by model
    rows = lines(tmp_path / "model_judgment" / "j_single.jsonl")
    assert fmean(row["score"] for row in rows if row["score"] != -1 and row["model"] == "m") == pytest.approx(
        result.score
    )
    math = {row["question_id"] for row in rows if row["judge"][1].startswith("single-math")}
    assert math == {row["question_id"] for row in questions if row["category"] in ("math", "reasoning", "coding")}
