"""The make targets: what they run, shown by `make -n`, which runs nothing."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str) -> str:
    """What make says; variables of an outer make or of the user do not reach it."""
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def command(*arguments: str) -> list[str]:
    """The words of the last command of `make -n ARGUMENTS`, as a shell reads them."""
    return shlex.split(make("-n", *arguments).replace("\\\n", " ").splitlines()[-1])


def test_what_is_not_set_is_not_passed() -> None:
    assert command("ddp-train") == [".venv/bin/vnc", "train", "--mode", "all", "--devices", "1", "--name", "model"]


def test_every_variable_reaches_vnc_train() -> None:
    flags = {"MODE": "mode", "NGPUS": "devices", "NAME": "name", "DEPTH": "depth", "TARGET_FLOPS": "target_flops",
             "BATCH_SIZE": "device_batch_size", "CHECKPOINT": "checkpoint", "DATA_DIR": "data_dir",
             "CHAT_DIR": "chat_dir", "TOKENIZER": "tokenizer", "CORE_EVALS": "core_evals",
             "CHATCORE_EVALS": "chatcore_evals"}  # fmt: skip
    words = command("ddp-train", *(f"{variable}=v{flag}" for variable, flag in flags.items()))[2:]
    assert dict(zip(words[::2], words[1::2], strict=True)) == {f"--{flag}": f"v{flag}" for flag in flags.values()}


def test_an_address_is_no_shell_syntax() -> None:
    address = "https://host/shards?first=1&last=2 *"
    assert command("ddp-train", f"DATA_DIR={address}")[-2:] == ["--data_dir", address]


@pytest.mark.parametrize("force, words", [(None, []), ("0", []), ("1", ["--yes", "true"])])
def test_kill_gpu_asks_unless_told_not_to(force: str | None, words: list[str]) -> None:
    arguments = [] if force is None else [f"FORCE={force}"]
    assert command("kill-gpu", *arguments) == [".venv/bin/vnc", "processes", "--kill", "true", *words]


def test_help_names_every_target_and_variable() -> None:
    text, makefile = make("help"), (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    assert targets[1].split() == re.findall(r"^  make (\S+)", text, re.MULTILINE)
    for variable in re.findall(r"\$\(call option,\w+,\$\((\w+)\)\)", makefile):
        assert variable in text
