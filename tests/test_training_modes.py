"""`vnc train`: which stages it runs, with what, and what it refuses before anything starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import training_modes
from tests.fitting import vnc
from tests.warm_start import SET_BY_LAUNCHERS
from vnc.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that would run."""
    commands: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chats").mkdir()
    monkeypatch.setattr(training_modes, "run", lambda *arguments: commands.append(list(arguments)))
    monkeypatch.setattr(training_modes, "check_chat_data", lambda *_: None)
    monkeypatch.setattr(training_modes, "vocabulary", lambda checkpoint: f"vocabulary of {checkpoint}")
    return commands


def value(command: list[str], flag: str) -> str | None:
    return command[command.index(flag) + 1] if flag in command else None


def test_all_stages_follow_one_another(stages: list[list[str]]) -> None:
    training_modes.train("all", "mine", 6, 8, 1e18, 16, data_dir="text", chat_dir="chats", core_evals=True)
    pretraining, core, chat = stages
    assert pretraining[0] == chat[0] == "fit" and core == [
        "evaluate", "--suite", "core", "--checkpoint", "runs/mine/checkpoints/last"
    ]  # fmt: skip
    wanted = ("--model.depth", "--model.target_flops", "--data.data_dir", "--name")
    assert [value(pretraining, flag) for flag in wanted] == [
        "6", "1e+18", "text", "mine"
    ]  # fmt: skip
    assert [value(chat, flag) for flag in ("--model.init_from", "--data.data_dir", "--name", "--data.tokenizer")] == [
        "runs/mine/checkpoints/last", "chats", "mine_chat", "vocabulary of runs/mine/checkpoints/last"
    ]  # fmt: skip
    for stage in (pretraining, chat):
        assert [value(stage, flag) for flag in ("--trainer.devices", "--model.device_batch_size", "--resume")] == [
            "8", "16", "true"
        ]  # fmt: skip
    assert value(chat, "--model.depth") is None  # the checkpoint's own


def test_what_is_not_given_is_left_to_the_configuration(stages: list[list[str]]) -> None:
    training_modes.train("pretraining")
    assert stages == [["fit", "--config", "configs/depth12.yaml", "--name", "model", "--runs_dir", "runs",
                       "--trainer.devices", "1", "--resume", "true"]]  # fmt: skip


def test_mid_training_alone_starts_from_a_checkpoint(stages: list[list[str]], tmp_path: Path) -> None:
    training_modes.train("mid-training", checkpoint=str(tmp_path))
    assert len(stages) == 1 and value(stages[0], "--model.init_from") == str(tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "mid-training"}, "--mode mid-training needs --checkpoint"),
        ({"mode": "mid-training", "checkpoint": "nowhere"}, "--checkpoint nowhere: no such checkpoint"),
        ({"mode": "all", "chat_config": "nowhere.yaml"}, "nowhere.yaml: no such configuration file"),
        ({"mode": "all", "config": __file__}, "test_training_modes.py is not YAML"),
        ({"mode": "all", "chat_dir": "nowhere"}, "--chat_dir nowhere: no such folder"),
        ({"mode": "all", "checkpoint": "some"}, "--checkpoint some: only --mode mid-training"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    stages: list[list[str]], options: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        training_modes.train(**options)
    assert stages == []


def test_chatcore_without_its_tests_is_refused_before_hours_of_training(
    stages: list[list[str]], tmp_path: Path
) -> None:
    chat_config = tmp_path / "chat.yaml"
    chat_config.write_text("data: {class_path: TinyWorld, init_args: {content: chat}}\n")
    with pytest.raises(UserError, match="--chatcore_evals: the tests are looked for in None, which is no folder"):
        training_modes.train("all", chat_config=str(chat_config), chatcore_evals=True)
    assert stages == []
    training_modes.train("all", chat_config=str(chat_config), chat_dir=str(tmp_path), chatcore_evals=True)
    assert stages[-1][:3] == ["evaluate", "--suite", "chatcore"] and stages[-1][-2:] == ["--bundle", str(tmp_path)]


def test_floating_point_operations_are_passed_on_exactly(stages: list[list[str]]) -> None:
    training_modes.train("pretraining", target_flops=1.2345678e18)
    assert float(value(stages[0], "--model.target_flops") or 0) == 1.2345678e18


def test_the_chat_run_stands_beside_the_run_it_starts_from(stages: list[list[str]]) -> None:
    training_modes.train("all", "sizes/small")
    assert [value(stage, "--name") for stage in stages] == ["sizes/small", "sizes/small_chat"]


def test_no_stage_follows_one_that_saved_and_ended_early(stages: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "runs" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "model" / "run.json").write_text('{"status": "interrupted"}')
    with pytest.raises(SystemExit) as ended:
        training_modes.train("all")
    assert ended.value.code == 143 and len(stages) == 1


@pytest.mark.parametrize("stage_code", [0, 3])  # `vnc fit` that has saved after SIGTERM ends with 0
def test_sigterm_is_passed_on_and_nothing_follows(tmp_path: Path, stage_code: int) -> None:
    stage = (f"import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit({stage_code}))\n"
             "print('ready', flush=True)\nfor _ in range(300): time.sleep(0.1)")  # fmt: skip
    (tmp_path / "cli.py").write_text(stage)
    script = f"import sys; sys.path.append({str(ROOT)!r}); import training_modes as t; t.run('fit'); print('went on')"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["$ vnc fit\n", "ready\n"]
        process.terminate()
        rest = process.communicate(timeout=20)[0]
        assert process.returncode == (stage_code or 143) and rest == ""
    finally:
        process.kill()


def test_data_that_mid_training_lacks_is_missed_before_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(training_modes, "run", lambda *arguments: ran.append(arguments))
    with pytest.raises(UserError, match=r"smoltalk.train.parquet .*no such file for task smoltalk"):
        training_modes.train("all", chat_dir=str(tmp_path))
    assert ran == []
    (tmp_path / "made_up.yaml").write_text("data: {class_path: TaskMixture, init_args: {tasks: [{task: spelling}]}}")
    training_modes.check_chat_data(tmp_path / "made_up.yaml", None)


def test_an_unknown_mode_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert vnc(monkeypatch, "train", "--mode", "finetuning") == 2
    assert "finetuning" in capsys.readouterr().err


def stages_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes of the stages inherit: nothing that runs inside this process have left behind."""
    for name in list(os.environ):
        if name.startswith(SET_BY_LAUNCHERS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_the_first_stage_that_fails_ends_it_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text("model: {depht: 3}")
    (tmp_path / "chat.yaml").write_text("data: {class_path: TaskMixture, init_args: {tasks: [{task: spelling}]}}")
    stages_see(monkeypatch)
    assert vnc(monkeypatch, "train", "--config", tmp_path / "wrong.yaml", "--chat_config", tmp_path / "chat.yaml",
               "--runs_dir", tmp_path) == 2  # fmt: skip
    said = capfd.readouterr()
    assert "depht" in said.err and "Traceback" not in said.err
    assert said.out.count("$ vnc fit") == 1


@pytest.mark.slow
def test_both_stages_for_real_and_again_without_doing_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = dict(depth=2, aspect_ratio=16, head_dim=16, sequence_len=64, total_batch_tokens=512, num_steps=4)
    world = {"class_path": "TinyWorld", "init_args": dict(vocab_size=512, val_tokens=512)}
    quiet = {"samples": {"every_n_steps": 0}, "trainer": {"accelerator": "cpu"}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"data": world, "model": model, **quiet}))
    tasks = [dict(task="spelling", size=400)]
    chat = {"class_path": "TaskMixture", "init_args": dict(tasks=tasks, lanes=8, val_tokens=512)}
    (tmp_path / "chat.yaml").write_text(yaml.safe_dump({"data": chat, "model": {"num_steps": 3}, **quiet}))
    stages_see(monkeypatch)
    for told in ("optimizer state from", "is finished"):
        code = vnc(monkeypatch, "train", "--mode", "all", "--config", tmp_path / "base.yaml", "--chat_config",
                   tmp_path / "chat.yaml", "--runs_dir", tmp_path / "runs")  # fmt: skip
        said = capfd.readouterr()
        assert code == 0, said.err
        assert told in said.out
    assert (tmp_path / "runs" / "model_chat" / "checkpoints" / "last" / "model.json").is_file()
