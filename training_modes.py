"""`vnc train`: the stages of a model one after another, pretraining, mid-training, or both, by one command.

Each stage is a `vnc fit` of its own, printed before it starts so that it can be copied. Given again, the command goes
on where it was interrupted: every stage is started with --resume true, and one that is finished ends at once.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from config_files import find_config
from vnc.errors import UserError

Mode = Literal["pretraining", "mid-training", "all"]


def train(
    mode: Mode = "all",
    name: str = "model",
    depth: int | None = None,
    devices: int = 1,
    target_flops: float | None = None,
    device_batch_size: int | None = None,
    checkpoint: str | None = None,
    config: str = "configs/depth12.yaml",
    chat_config: str = "configs/midtrain.yaml",
    data_dir: str | None = None,
    tokenizer: str | None = None,
    chat_dir: str | None = None,
    runs_dir: str = "runs",
    core_evals: bool = False,
    chatcore_evals: bool = False,
) -> None:
    """Pretrain a model, mid-train one, or do both.

    Args:
        mode: pretraining, mid-training, or all: one after the other.
        name: Run folder of pretraining; mid-training's has _chat behind it.
        depth: The one knob; the configuration's when not given.
        devices: Processes, one for each GPU.
        target_flops: Training FLOPs of pretraining; decides the horizon.
        device_batch_size: Rows of one micro-batch on one process.
        checkpoint: What mid-training starts from; with mode all, what pretraining leaves.
        config: Configuration of pretraining.
        chat_config: Configuration of mid-training.
        data_dir: Folder with pretraining's data; the configuration's when not given.
        tokenizer: Vocabulary of pretraining; the configuration's when not given. Mid-training takes the model's own.
        chat_dir: Folder with mid-training's data; the configuration's when not given.
        runs_dir: Where run folders are made.
        core_evals: Score the pretrained model on CORE when it is done.
        chatcore_evals: Score the chat model on ChatCORE when it is done.
    """
    if mode != "mid-training" and checkpoint is not None:
        raise UserError(f"--checkpoint {checkpoint}: only --mode mid-training starts from one; to go on with a run, "
                        "give its command again")  # fmt: skip
    if mode == "mid-training" and checkpoint is None:
        raise UserError("--mode mid-training needs --checkpoint, the pretrained model, such as "
                        "runs/NAME/checkpoints/last")  # fmt: skip
    if checkpoint is not None and not Path(checkpoint).exists():
        raise UserError(f"--checkpoint {checkpoint}: no such checkpoint; give a directory such as "
                        "runs/NAME/checkpoints/last")  # fmt: skip
    for stage_config in (config,) * (mode != "mid-training") + (chat_config,) * (mode != "pretraining"):
        find_config(Path(stage_config))
    if mode != "pretraining" and chat_dir is not None and "://" not in chat_dir and not Path(chat_dir).is_dir():
        raise UserError(f"--chat_dir {chat_dir}: no such folder; vnc prepare task_mixture --out {chat_dir} makes it")
    tests = chat_tests(find_config(Path(chat_config)), chat_dir) if chatcore_evals and mode != "pretraining" else None
    if mode == "all":
        check_chat_data(find_config(Path(chat_config)), chat_dir)
    stage = ["--runs_dir", runs_dir, "--trainer.devices", str(devices), "--resume", "true"]
    stage += option("--model.device_batch_size", device_batch_size)
    base, chat = Path(runs_dir) / name, Path(runs_dir) / f"{name}_chat"
    if mode != "mid-training":
        run("fit", "--config", config, "--name", name, *stage, *option("--model.depth", depth),
            *option("--model.target_flops", target_flops), *option("--data.data_dir", data_dir),
            *option("--data.tokenizer", tokenizer))  # fmt: skip
        stop_if_interrupted(base)
        checkpoint = str(base / "checkpoints" / "last")
        if core_evals:
            run("evaluate", "--suite", "core", "--checkpoint", checkpoint)
    if mode != "pretraining":
        assert checkpoint is not None
        run("fit", "--config", chat_config, "--name", f"{name}_chat", *stage, "--model.init_from", checkpoint,
            *option("--data.tokenizer", vocabulary(checkpoint)), *option("--data.data_dir", chat_dir))  # fmt: skip
        stop_if_interrupted(chat)
        if tests is not None:
            run(
                "evaluate", "--suite", "chatcore", "--checkpoint", str(chat / "checkpoints" / "last"), "--bundle", tests
            )


def check_chat_data(config: Path, chat_dir: str | None) -> None:
    """UserError, before hours of pretraining, for what mid-training's task mixture would find missing after them."""
    import yaml

    data = yaml.safe_load(config.read_text()).get("data") or {}
    if str(data.get("class_path", "")).rpartition(".")[2] != "TaskMixture":
        return
    from datamodules.task_mixture import TaskMixture
    from datamodules.tasks.spec import open_task

    given = {} if chat_dir is None else {"data_dir": chat_dir}
    mixture = TaskMixture(**((data.get("init_args") or {}) | given))
    for spec in mixture.specs:
        open_task(spec, mixture.data_dir)


def chat_tests(config: Path, chat_dir: str | None) -> str:
    """The folder with ChatCORE's tests, which stand beside mid-training's data. UserError, before anything starts,
    where there is none."""
    import yaml

    init_args = (yaml.safe_load(config.read_text()).get("data") or {}).get("init_args") or {}
    folder = chat_dir or init_args.get("data_dir")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        raise UserError(f"--chatcore_evals: the tests are looked for in {folder}, which is no folder; give --chat_dir, "
                        "or leave it out")  # fmt: skip
    return folder


def vocabulary(checkpoint: str) -> str:
    """The folder in which a checkpoint's vocabulary lies, for --data.tokenizer."""
    from vnc import checkpoint as files

    return str(files.resolve(Path(checkpoint)))


def option(flag: str, value: object) -> list[str]:
    """The flag with its value, nothing where there is none."""
    return [] if value is None else [flag, str(value)]


def stop_if_interrupted(folder: Path) -> None:
    """SystemExit when the run in `folder` has saved and ended early: `vnc fit` exits with 0 then, but the next stage
    must not start from a model that is half trained."""
    record = folder / "run.json"
    if record.is_file() and json.loads(record.read_text())["status"] == "interrupted":
        print(f"{folder} was interrupted: give the same command again to go on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM)


def run(*arguments: str) -> None:
    """Run `vnc ARGUMENTS` to its end; SystemExit with its exit code unless that is 0, or with 128 + the signal that
    ended it or that this process got meanwhile.

    Ctrl-C reaches the stage from the terminal by itself, SIGTERM is passed on; either way the stage saves first."""
    print(f"$ vnc {shlex.join(arguments)}", flush=True)
    asked: list[int] = []
    stage: subprocess.Popen[bytes] | None = None

    def note(number: int, _: object) -> None:
        asked.append(number)
        if stage is not None and number == signal.SIGTERM:
            stage.terminate()

    former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stage = subprocess.Popen([sys.executable, "-m", "cli", *arguments])
        if signal.SIGTERM in asked:  # it came before there was anything to pass it on to
            stage.terminate()
        # Not `stage.wait()`: a signal that comes just before that blocks would not be passed on before the stage's end.
        while (code := stage.poll()) is None:
            time.sleep(0.05)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if code or asked:
        raise SystemExit(code if code > 0 else 128 + (-code or asked[0]))
