"""What the suites of a chat model leave behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from tests.judge_server import Body, JudgeServer, Reply, asked
from tests.vnc.evals.suites.conftest import Run
from tests.vnc.evals.suites.json_files import read, read_lines
from vnc import checkpoint
from vnc.checkpoint import load_model
from vnc.evals.answering import conversation
from vnc.evals.chatcore.answers import answer
from vnc.evals.ifeval.prompts import read_prompts
from vnc.evals.ifeval.responses import read_responses
from vnc.evals.ifeval.scoring import score as score_ifeval
from vnc.evals.judge import Judge
from vnc.evals.suites import NAMES, Name, Settings, prepare


def answers_to(model: Path, questions: Sequence[Sequence[str]], max_tokens: int = 6) -> list[str]:
    loaded = load_model(str(model), torch.device("cpu"), torch.float32)
    return answer(loaded, [conversation(*texts) for texts in questions], max_tokens)


def test_mt_bench_without_a_judge_saves_answers(
    run: Run, data: dict[str, Path], tmp_path: Path, chat_export: Path
) -> None:
    code, out, _ = run("mt_bench", "--bundle", data["mt_bench"], "--json", "scores.json")
    assert code == 0
    assert "MT-Bench: not judged (give --judge_url and --judge_model to have the answers judged)" in out
    values = read(tmp_path / "scores.json")
    assert (values["suite"], values["mt_bench"], values["judge"]) == ("mt_bench", "not judged", None)
    assert values["answers"] == str(Path("answers") / "mt_bench") and f": {values['answers']}" in out
    folder = tmp_path / values["answers"]
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.*")] == ["model_answer/parrot.jsonl"]
    rows = read_lines(folder / "model_answer" / "parrot.jsonl")
    first = answers_to(chat_export, [[f"So {row['question_id']}"] for row in rows])
    second = answers_to(
        chat_export, [[f"So {row['question_id']}", said, "and then?"] for row, said in zip(rows, first, strict=True)]
    )
    assert [row["choices"][0]["turns"] for row in rows] == [list(pair) for pair in zip(first, second, strict=True)]
    assert len({*first, *second}) > 1  # the model does say something


def test_mt_bench_with_a_judge(
    run: Run, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-this-test")
    with JudgeServer(lambda body: Reply("[[7]]" if "multi" in body["messages"][0]["content"] else "[[4]]")) as server:
        options = ("--bundle", data["mt_bench"], "--max_examples", 2, "--json", "scores.json",
                   "--judge_url", server.url, "--judge_model", "org/judge")  # fmt: skip
        code, out, _ = run("mt_bench", *options)
        assert code == 0 and len(server.bodies) == 4
        values = read(tmp_path / "scores.json")
        assert (values["mt_bench"], values["judge"], values["judged"]) == (5.5, "org/judge", 4)
        assert values["by_turn"] == {"1": 4.0, "2": 7.0}
        assert "judged by org/judge: 4 turns, 0 without a verdict" in out and "5.50" in out
        code, again, _ = run("mt_bench", *options)
        assert code == 0 and len(server.bodies) == 4  # all of it was in the cache
    folder = tmp_path / "answers"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == {
        "judge_cache.jsonl", "mt_bench/model_answer/parrot.jsonl", "mt_bench/model_judgment/org_judge_single.jsonl",
    }  # fmt: skip
    rows = read_lines(folder / "mt_bench" / "model_judgment" / "org_judge_single.jsonl")
    assert sorted((row["turn"], row["score"]) for row in rows) == [(1, 4.0), (1, 4.0), (2, 7.0), (2, 7.0)]
    everything = "".join(path.read_text() for path in tmp_path.rglob("*.json*")) + out + again
    assert "sk-secret" not in everything


def test_a_judge_that_refuses_ends_in_a_line_and_answers_are_kept(
    run: Run, data: dict[str, Path], tmp_path: Path
) -> None:
    with JudgeServer(lambda body: Reply(status=401, body="no")) as server:
        code, _, err = run("mt_bench", "--bundle", data["mt_bench"], "--judge_url", server.url, "--judge_model", "j")
    assert code == 2 and err.splitlines()[-1].startswith("error: ") and "401" in err
    assert (tmp_path / "answers/mt_bench/model_answer/parrot.jsonl").is_file()


def test_alpaca_eval_with_and_without_a_judge(
    run: Run, data: dict[str, Path], tmp_path: Path, chat_export: Path
) -> None:
    options = ("--bundle", data["alpaca_eval"], "--out", "mine", "--json", "scores.json")
    code, out, _ = run("alpaca_eval", *options)
    assert code == 0 and "AlpacaEval: not judged (give --judge_url" in out
    values = read(tmp_path / "scores.json")
    assert (values["alpaca_eval"], values["judged"]) == ("not judged", 0)
    assert values["answers"] == str(Path("mine") / "alpaca_eval")
    (file,) = (path for path in (tmp_path / values["answers"]).rglob("*.json"))
    rows = read(file)
    assert [row["instruction"] for row in rows] == [f"Do {n}" for n in range(4)]
    assert [row["output"] for row in rows] == answers_to(chat_export, [[f"Do {n}"] for n in range(4)])
    assert {row["generator"] for row in rows} == {"parrot"}

    def judge(body: Body) -> Reply:
        return Reply("Verdict: tie" if "Do 3" in asked(body) else "Verdict: A")

    with JudgeServer(judge) as server:
        code, out, _ = run("alpaca_eval", *options, "--judge_url", server.url, "--judge_model", "j")
    assert code == 0
    values = read(tmp_path / "scores.json")
    assert values["judged"] == 4 and values["wins"] + values["losses"] == 3
    assert values["alpaca_eval"] == pytest.approx(100 * (values["wins"] + 0.5) / 4)
    assert f"AlpacaEval: {values['alpaca_eval']:.2f}% of answers preferred to gpt4_1106_preview's" in out


def test_ifeval(run: Run, data: dict[str, Path], tmp_path: Path, chat_export: Path) -> None:
    options = ("--bundle", data["ifeval"], "--json", "scores.json")
    code, out, _ = run("ifeval", *options)
    assert code == 0
    values = read(tmp_path / "scores.json")
    assert values["responses"] == str(Path("answers") / "ifeval" / "parrot.jsonl") and values["responses"] in out
    prompts = read_prompts(data["ifeval"])
    responses = read_responses(tmp_path / values["responses"], prompts)
    assert list(responses) == answers_to(chat_export, [[prompt.text] for prompt in prompts])
    wanted = json.loads(json.dumps(score_ifeval(prompts, responses).as_dict()))
    assert {key: values[key] for key in wanted} == wanted
    # Six tokens are no book: that prompt fails, whatever the model says.
    assert score_ifeval(prompts, responses).prompt_strict < 1


def test_ifeval_keeps_other_responses(run: Run, data: dict[str, Path], tmp_path: Path) -> None:
    options = ("--bundle", data["ifeval"])
    assert run("ifeval", *options)[0] == 0
    folder = tmp_path / "answers" / "ifeval"
    first = (folder / "parrot.jsonl").read_bytes()
    assert run("ifeval", *options)[0] == 0
    assert [path.name for path in folder.iterdir()] == ["parrot.jsonl"]  # the same again
    assert run("ifeval", *options, "--max_examples", 1)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["parrot.jsonl", "parrot.jsonl.1"]
    assert (folder / "parrot.jsonl.1").read_bytes() == first
    assert len(read_lines(folder / "parrot.jsonl")) == 1


def test_chatcore(run: Run, data: dict[str, Path], tmp_path: Path) -> None:
    options = ("--bundle", data["chatcore"], "--tasks", "gsm8k,mmlu", "--max_examples", 3, "--json", "scores.json")
    code, out, err = run("chatcore", *options)
    assert code == 0 and err == ""
    values = read(tmp_path / "scores.json")
    (task,) = values["tasks"]
    assert (values["suite"], task["label"], task["rows"]) == ("chatcore", "gsm8k", 3)
    assert values["chatcore"] == task["centered"]
    assert [left["label"] for left in values["left_out"]] == ["mmlu"] and "left out: mmlu" in out
    assert "1 task of" in out and "3 rows" in out


def test_a_model_that_was_not_taught_to_chat_is_warned_of(
    run: Run, data: dict[str, Path], chat_export: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in chat_export.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    sizes = read(base / checkpoint.MODEL_JSON)
    (base / checkpoint.MODEL_JSON).write_text(json.dumps(sizes | {"chat": False}))
    with pytest.warns(UserWarning, match="base was not trained to chat; chatcore asks it in a form it has not learnt"):
        code, _, _ = run("chatcore", "--bundle", data["chatcore"], "--tasks", "gsm8k", model=base)
    assert code == 0


@pytest.mark.parametrize(
    ("suite", "judged"), [*((name, False) for name in NAMES), ("mt_bench", True), ("alpaca_eval", True)]
)
def test_progress_comes_to_the_rows_that_were_announced(
    suite: Name, judged: bool, data: dict[str, Path], bundle: Path, chat_export: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    content = yaml.safe_load((bundle / "core.yaml").read_text()) | {"eval_gauntlet": {"categories": []}}
    (bundle / "gauntlet.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("no_proxy", "*")
    rows = {"core": 3 * 3, "gauntlet": 3 * 3, "chatcore": 3 + 3, "ifeval": 3}
    rows |= {"mt_bench": 3 * (4 if judged else 2), "alpaca_eval": 3 * (2 if judged else 1)}
    with JudgeServer(lambda body: Reply("[[5]]\nVerdict: A")) as server:
        judge = Judge(server.url, "judge") if judged else None
        settings = Settings(data.get(suite, bundle), None, 3, judge=judge, out=tmp_path / "out", max_tokens=4)
        prepared = prepare(suite, settings)
        assert prepared.rows == rows[suite]
        heard: list[int] = []
        loaded = load_model(chat_export, "cpu", torch.float32)
        prepared.run(loaded, lambda label, count: heard.append(count))
    assert sum(heard) == prepared.rows
