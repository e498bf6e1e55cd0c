"""What is wrong is told before a model is opened: there is none in these tests."""

import subprocess
import sys
from pathlib import Path

import pytest

import cli
from tests.vnc.evals.suites.conftest import Run
from vnc.errors import UserError
from vnc.evals.judge import Judge
from vnc.evals.suites import NAMES, Name, Settings, model_id, prepare


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
