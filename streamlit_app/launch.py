"""`vnc app`: the app in a browser, served from this machine to this machine.

The server is Streamlit's own, started in place of this process, so that Ctrl-C, signals and exit codes are its own.
Settings that are given here as options outrank whatever a config.toml of the user says.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from streamlit_app.reach import LOCAL
from streamlit_app.runs_folder import VARIABLE
from vnc.errors import UserError

ENTRY = Path(__file__).with_name("app.py")

SETTINGS = {
    "browser.gatherUsageStats": "false",
    "server.showEmailPrompt": "false",
    "server.fileWatcherType": "none",  # the app's own files do not change, and watching costs a thread
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",  # a fault's traceback belongs in the terminal
    "theme.light.primaryColor": "#2563eb",
    "theme.dark.primaryColor": "#4f7ff5",
}


def app(port: int = 8003, runs_dir: str = "runs", address: str = "127.0.0.1") -> None:
    """Chat with your models, watch runs, compare evaluations and plan, in a browser.

    Args:
        port: Where the app listens.
        runs_dir: The folder whose runs and checkpoints it shows. They are only read.
        address: Who can reach it: 127.0.0.1 is this machine alone. The app has no password.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise UserError("vnc app needs Streamlit: type `make chat-server`, or pip install 'vnc[app]'")
    runs = Path(runs_dir)
    if runs.exists() and not runs.is_dir():
        raise UserError(f"runs_dir={runs_dir}: not a folder; give the one that holds your runs")
    check_free(address, port)
    if address not in LOCAL:
        print(f"warning: whoever can reach {address} port {port} can use this app; it has no password", file=sys.stderr)
    os.environ[VARIABLE] = str(runs.resolve())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", *arguments(port, address, has_display(os.environ))])


def arguments(port: int, address: str, display: bool) -> list[str]:
    """What follows `streamlit`. Without a display no browser is opened."""
    settings = SETTINGS | {
        "server.address": address,
        "server.port": str(port),
        "server.headless": str(not display).lower(),
    }
    return ["run", str(ENTRY), *(f"--{name}={value}" for name, value in settings.items())]


def has_display(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser window can open on this machine."""
    return platform in ("darwin", "win32") or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def check_free(address: str, port: int) -> None:
    """Raises UserError unless this process could listen there."""
    if not 1 <= port <= 65535:
        raise UserError(f"port={port}: must be from 1 to 65535")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except socket.gaierror:
        raise UserError(f"address={address}: not an address of this machine; 127.0.0.1 is the usual one") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use, perhaps by another app; choose one with --port") from None
        raise UserError(f"cannot listen on {address} port {port}: {error.strerror}; choose another") from None
