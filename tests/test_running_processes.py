"""Which processes count as training, and how they are ended; real processes, started here."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_processes import end, is_training, processes, training_processes

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
WAITS = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


@pytest.mark.parametrize(
    "command, expected",
    [
        ("/home/me/.venv/bin/python /home/me/.venv/bin/vnc fit --config x", True),
        ("python3.11 -m cli train --mode all", True),
        ("/usr/bin/python cli.py validate", True),
        ("vnc fit", True),
        ("python -m cli scaling sweep --config x", True),
        ("vnc scaling fit --runs x", False),
        ("/usr/bin/python -u cli.py fit", True),  # as torchrun starts it
        ("python -c cli.py fit", False),
        ("python /home/me/.venv/bin/vnc chat --checkpoint fit", False),
        ("python /home/me/.venv/bin/vnc evaluate", False),
        ("vim vnc fit", False),
        ("grep cli fit", False),
        ("python other.py cli fit", False),
        ("python -m client fit", False),
        ("", False),
    ],
)
def test_what_counts_as_training(command: str, expected: bool) -> None:
    assert is_training(tuple(command.split())) is expected


def started(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    """`python cli.py ARGUMENTS`, where cli.py is `code`."""
    (folder / "cli.py").write_text(code)
    process = subprocess.Popen([sys.executable, str(folder / "cli.py"), *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = started(tmp_path, WAITS, "fit", "--name", "dummy")
    yield process
    process.kill()
    process.wait()


def test_training_is_found_with_its_children_and_nothing_else(tmp_path: Path, training: subprocess.Popen[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    chat = started(other, WAITS, "chat")
    parent = tmp_path / "parent"
    parent.mkdir()
    spawning = started(parent, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {WAITS!r}])", "test")
    try:
        found = {process.pid: process for process in training_processes()}
        assert training.pid in found and spawning.pid in found
        assert any(process.parent == spawning.pid for process in found.values())
        assert chat.pid not in found and os.getpid() not in found and os.getppid() not in found
    finally:
        for left in training_processes():  # while its parent lives, by which it is known
            if left.parent == spawning.pid:
                os.kill(left.pid, 9)
        for process in (chat, spawning):
            process.kill()
            process.wait()


def test_they_are_asked_to_end_first(training: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    end([process for process in training_processes() if process.pid == training.pid], grace=20)
    assert training.wait(5) == -15 and "1 ended" in capsys.readouterr().out


def test_what_does_not_end_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = started(tmp_path, STUBBORN, "fit")
    began = time.monotonic()
    end([one for one in training_processes() if one.pid == process.pid], grace=0.5)
    assert process.wait(5) == -9 and time.monotonic() - began < 5
    assert "did not end within 0.5 s" in capsys.readouterr().out


def test_a_child_that_outlives_its_parent_is_killed_too(tmp_path: Path) -> None:
    spawns = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {STUBBORN!r}])"
    parent = started(tmp_path, spawns, "fit")
    found = [one for one in training_processes() if parent.pid in (one.pid, one.parent)]
    child = next(one for one in found if one.parent == parent.pid)
    try:
        end(found, grace=1)
        assert parent.wait(5) == -15
        deadline = time.monotonic() + 5
        while Path(f"/proc/{child.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not Path(f"/proc/{child.pid}").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, 9)


def test_listing_ends_nothing(training: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    processes()
    line = next(one for one in capsys.readouterr().out.splitlines() if one.split()[0] == str(training.pid))
    begun = time.mktime(time.strptime(" ".join(line.split()[1:3]), "%Y-%m-%d %H:%M:%S"))
    assert abs(begun - time.time()) < 30 and training.poll() is None
