"""`vnc app`: what it starts, and how it refuses."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamlit_app import launch
from streamlit_app.runs_folder import VARIABLE, lies_within, runs_folder
from tests.launching import free_port
from vnc.errors import UserError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Notes what this process would become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: commands.append([program, *words]))
    monkeypatch.setenv(VARIABLE, "unset")
    return commands


def test_it_becomes_streamlit_on_this_machine_alone(started, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    port = free_port()
    launch.app(port=port)
    ((program, *words),) = started
    assert program == words[0] == sys.executable and words[1:4] == ["-m", "streamlit", "run"]
    assert Path(words[4]) == launch.ENTRY and launch.ENTRY.is_file()
    assert {"--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true",
            "--browser.gatherUsageStats=false", "--server.fileWatcherType=none"} < set(words)  # fmt: skip
    assert os.environ[VARIABLE] == str(tmp_path / "runs") and runs_folder() == (tmp_path / "runs").resolve()


def test_streamlit_knows_every_setting() -> None:
    from streamlit import config

    names = [word.removeprefix("--").partition("=")[0] for word in launch.arguments(1, "x", True)[2:]]
    assert len(names) > 5 and set(names) <= set(config.get_config_options())


@pytest.mark.parametrize(
    "environment, platform, display",
    [({}, "linux", False), ({"DISPLAY": ":0"}, "linux", True), ({"WAYLAND_DISPLAY": "w"}, "linux", True),
     ({"DISPLAY": ""}, "linux", False), ({}, "darwin", True)],
)  # fmt: skip
def test_a_browser_opens_only_where_there_is_a_display(environment, platform: str, display: bool) -> None:
    assert launch.has_display(environment, platform) is display


def test_mistakes_are_one_line(started, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for options, named in (
            (dict(port=taken.getsockname()[1]), "is in use"),
            (dict(port=0), "port=0"),
            (dict(port=70000), "port=70000"),
            (dict(address="256.1.1.1"), "256.1.1.1"),
            (dict(address="192.0.2.1"), "192.0.2.1"),
            (dict(runs_dir=str(tmp_path / "file")), "not a folder"),
        ):
            with pytest.raises(UserError, match=named):
                launch.app(**(dict(port=free_port()) | options))
    assert started == []


def test_without_streamlit_it_says_what_to_type(started, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="make chat-server"):
        launch.app()
    assert started == []


def test_other_machines_only_with_a_warning(started, capsys) -> None:
    launch.app(port=free_port(), address="0.0.0.0")
    assert "no password" in capsys.readouterr().err and "--server.address=0.0.0.0" in started[0]
    launch.app(port=free_port())
    assert capsys.readouterr().err == ""


def test_help_costs_neither_streamlit_nor_torch() -> None:
    code = "import sys, streamlit_app.launch; assert not {'streamlit', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_server_of_answers_needs_no_streamlit_and_no_lightning() -> None:
    code = (
        "import sys, streamlit_app.chat_server, streamlit_app.conversations, streamlit_app.token_view\n"
        "assert not {'streamlit', 'lightning', 'callbacks', 'datamodules'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_what_lies_within_a_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs", tmp_path / "runs2"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    assert lies_within(inside, inside.resolve())
    for path in (inside / "link", outside, inside / ".." / "runs2", inside / "missing"):
        assert not lies_within(path, inside.resolve())
