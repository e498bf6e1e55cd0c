"""The suites behind `vnc evaluate`: what is checked before a model is opened, and what each leaves behind."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

import cli
from tests.fitting import vnc
from tests.judge_server import Body, JudgeServer, Reply, asked
from vnc import checkpoint
from vnc.checkpoint import load_model
from vnc.config import GPTConfig
from vnc.errors import UserError
from vnc.evals.answering import conversation
from vnc.evals.chatcore.answers import answer
from vnc.evals.ifeval.prompts import read_prompts
from vnc.evals.ifeval.responses import read_responses
from vnc.evals.ifeval.scoring import score as score_ifeval
from vnc.evals.judge import Judge
from vnc.evals.suites import NAMES, Name, Settings, model_id, prepare
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer

CODE = {"prompt": "def f(x):\n", "canonical_solution": "    return x\n", "entry_point": "f", "test_inputs": ["(1,)"],
        "test_outputs": ["1"]}  # fmt: skip
PROMPTS = [
    {"key": 1, "prompt": "Say it without a comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "Write a book.", "instruction_id_list": ["length_constraints:number_words"],
     "kwargs": [{"relation": "at least", "num_words": 9_999}]},
    {"key": 3, "prompt": "Say something.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
]  # fmt: skip


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def chat_export(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small chat model with random weights, as an export."""
    folder = tmp_path_factory.mktemp("chat") / "parrot"
    folder.mkdir()
    gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_len=96, n_layer=2, n_head=2, n_embd=32))
    generator = torch.Generator().manual_seed(5)
    for parameter in gpt.parameters():
        parameter.data.normal_(0.0 if parameter.dim() > 1 else 0.5, 0.3, generator=generator)
    tensors = {name: parameter.data.contiguous() for name, parameter in gpt.named_parameters()}
    safetensors.torch.save_file(tensors, folder / checkpoint.MODEL_FILE)
    checkpoint.write_model_json(folder, gpt.config, chat=True)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    """A small folder of data for each suite of a chat model."""
    templates = {
        "single-v1": "{question} {answer}",
        "single-math-v1": "{question} {ref_answer_1} {answer}",
        "single-v1-multi-turn": "{question_1} {answer_1} {question_2} {answer_2}",
        "single-math-v1-multi-turn": "{question_1} {ref_answer_1} {question_2} {ref_answer_2} {answer_1} {answer_2}",
    }
    bench = tmp_path / "data" / "mt_bench"
    lines(bench / "question.jsonl", [
        {"question_id": number, "category": "writing", "turns": [f"So {number}", "and then?"]}
        for number in (81, 82, 83)
    ])  # fmt: skip
    lines(bench / "reference_answer" / "gpt-4.jsonl", [{"question_id": 9, "choices": [{"turns": ["a", "b"]}]}])
    lines(bench / "judge_prompts.jsonl", [
        {"name": name, "type": "single", "system_prompt": name, "prompt_template": template}
        for name, template in templates.items()
    ])  # fmt: skip
    alpaca = lines(tmp_path / "data" / "alpaca" / "eval_set.jsonl", [
        {"instruction": f"Do {n}", "dataset": "d", "output": "o", "generator": "text_davinci_003",
         "output_gpt4_1106_preview": "p"} for n in range(4)
    ])  # fmt: skip
    chat = tmp_path / "data" / "chat"
    lines(chat / "gsm8k_test.jsonl", [{"question": f"{n} + 1?", "answer": f"So. #### {n + 1}"} for n in range(5)])
    ifeval = lines(tmp_path / "data" / "ifeval" / "input_data.jsonl", PROMPTS)
    return {"mt_bench": bench, "alpaca_eval": alpaca.parent, "chatcore": chat, "ifeval": ifeval.parent}


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, chat_export: Path) -> Run:
    """`vnc evaluate` in a folder of its own: exit code, what it printed, and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(suite: str, *arguments: object, model: Path = chat_export) -> tuple[int, str, str]:
        options = ("--suite", suite, "--checkpoint", model, "--max_tokens", 6, "--compute_dtype", "float32",
                   "--device", "cpu")  # fmt: skip
        code = vnc(monkeypatch, "evaluate", *options, *arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_to(model: Path, questions: Sequence[Sequence[str]], max_tokens: int = 6) -> list[str]:
    loaded = load_model(str(model), torch.device("cpu"), torch.float32)
    return answer(loaded, [conversation(*texts) for texts in questions], max_tokens)


# What is wrong is told before a model is opened: there is none in these tests.


@pytest.mark.parametrize("suite", [name for name in NAMES if name != "core"])
def test_a_suite_without_data_says_what_it_needs(suite: Name, run: Run) -> None:
    with pytest.raises(UserError, match=f"suite {suite} needs --bundle: "):
        prepare(suite, Settings())
    code, _, err = run(suite, model=Path("nowhere"))
    assert code == 2 and f"suite {suite} needs --bundle" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("suite", NAMES)
def test_settings_that_make_no_sense(suite: Name, data: dict[str, Path]) -> None:
    folder = data.get(suite)
    with pytest.raises(UserError, match="max_examples=0: must be at least 1"):
        prepare(suite, Settings(folder, max_examples=0))
    if suite not in ("core", "gauntlet", "chatcore"):
        with pytest.raises(UserError, match=f"tasks: {suite} has no tasks to choose from"):
            prepare(suite, Settings(folder, tasks=("a",)))
    if suite not in ("mt_bench", "alpaca_eval"):
        judge = Judge("http://127.0.0.1:9", "judge")
        with pytest.raises(UserError, match=f"judge_url: {suite} needs no judge; only mt_bench and alpaca_eval do"):
            prepare(suite, Settings(folder, judge=judge))


@pytest.mark.parametrize(
    ("suite", "file", "content", "message"),
    [
        ("mt_bench", "question.jsonl", '{"question_id": 1}\n', "question.jsonl, line 1: key 'category'"),
        ("mt_bench", "judge_prompts.jsonl", "\n", "judge_prompts.jsonl: no rows in it"),
        ("alpaca_eval", "eval_set.jsonl", '{"instruction": 3}\n', "eval_set.jsonl, line 1: key 'instruction'"),
        ("chatcore", "gsm8k_test.jsonl", '{"question": "a"}\n', "gsm8k_test.jsonl"),
        ("ifeval", "input_data.jsonl", '{"key": 1}\n', "input_data.jsonl, line 1"),
    ],
)
def test_data_is_checked_before_the_model(
    suite: str, file: str, content: str, message: str, data: dict[str, Path], run: Run
) -> None:
    (data[suite] / file).write_text(content)
    code, out, err = run(suite, "--bundle", data[suite], model=Path("nowhere"))
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("suite", "arguments", "message"),
    [
        ("mt_bench", ["--judge_url", "http://127.0.0.1:9"], "judge_url and judge_model: give both"),
        ("mt_bench", ["--judge_model", "judge"], "judge_url and judge_model: give both"),
        ("mt_bench", ["--judge_url", "http://127.0.0.1:9", "--judge_model", " "], "judge model: give the name"),
        ("mt_bench", ["--max_tokens", "0"], "max_tokens=0: must be at least 1"),
        ("mt_bench", ["--tasks", "writing"], "tasks: mt_bench has no tasks to choose from"),
        ("chatcore", ["--tasks", "piano"], "chatcore has no task 'piano'"),
        ("alpaca_eval", ["--bundle", "elsewhere"], "elsewhere"),
        ("ifeval", ["--bundle", "elsewhere"], "elsewhere"),
        ("chatcore", ["--bundle", "elsewhere"], "elsewhere: no such folder"),
    ],
)
def test_mistakes_in_the_options_are_told_before_the_model(
    suite: str, arguments: list[str], message: str, data: dict[str, Path], run: Run
) -> None:
    code, out, err = run(suite, "--bundle", data[suite], *arguments, model=Path("nowhere"))
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1


def test_nothing_of_torch_is_imported_until_a_model_is_asked(data: dict[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from vnc.evals.suites import Settings, prepare\n"
        "for name, folder in zip(sys.argv[1::2], sys.argv[2::2]): prepare(name, Settings(Path(folder)))\n"
        "prepare('core', Settings())\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    pairs = [str(part) for pair in data.items() for part in pair]
    subprocess.run([sys.executable, "-c", script, *pairs], cwd=Path(cli.__file__).parent, check=True)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/runs/tiny/checkpoints/step_00000160", "tiny_step_00000160"),
        ("/exports/gpt2-xl", "gpt2-xl"),
        ("/exports/My model (1)", "My_model_1_"),
        ("/exports/.hidden", "hidden"),
        ("/exports/---", "model"),
    ],
)
def test_a_model_is_named_by_its_place(source: str, name: str) -> None:
    assert model_id(Path(source)) == name


def test_a_checkpoint_is_named_with_its_run_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "checkpoints" / "step_1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    assert model_id(Path("step_1")) == "run_step_1"


# What the suites of a chat model leave behind.


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


# Suites of base models.


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
