"""A headless Chromium and the app, each a process of its own. Tests are skipped where Chromium is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from streamlit_app import launch
from streamlit_app.runs_folder import VARIABLE
from tests.launching import free_port

LIMIT = 120.0  # seconds for anything to appear, on a busy machine
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip

Found = TypeVar("Found")


@contextlib.contextmanager
def app(runs: Path, log: Path) -> Iterator[str]:
    """The address of an app that shows this runs folder; its output goes to `log`. It finds no C compiler: a parrot
    in C has sung 900 times before a browser can stop it."""
    port = free_port()
    environment = os.environ | {VARIABLE: str(runs), "PYTHONPATH": str(Path(__file__).parents[2]),
                                "OMP_NUM_THREADS": "1", "HOME": str(log.parent), "PATH": str(log.parent)}  # fmt: skip
    command = [sys.executable, "-m", "streamlit", *launch.arguments(port, "127.0.0.1", display=False)]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: process.poll() is None and healthy(address))
            yield address
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def until(condition: Callable[[], Found], limit: float = LIMIT) -> Found:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not appear in time"
        time.sleep(0.05)
    return found


class Browser:
    """One window."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(profile / "downloads")})
        self.downloads = profile / "downloads"
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.look(width, height, dark)

    def look(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """The screen of a desktop or a phone, and the colours that its owner likes."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def close(self) -> None:
        self.driver.quit()

    def go(self, address: str) -> None:
        self.driver.get(address)

    def script(self, code: str) -> Any:
        return self.driver.execute_script(code)

    def texts(self, selector: str) -> list[str]:
        """What is visible in the elements, read at one moment."""
        found: list[str] = self.script(f"return [...document.querySelectorAll({selector!r})].map(e => e.innerText)")
        return found

    def find(self, selector: str) -> WebElement:
        """The first such element, once it is there."""
        return until(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None))

    def click(self, selector: str, text: str = "") -> None:
        """Clicks the first such element that holds the text, once it is there."""
        code = f"""const e = [...document.querySelectorAll({selector!r})].find(e => e.innerText.includes({text!r}));
                   if (e) e.click(); return Boolean(e)"""
        until(lambda: self.script(code))

    def type(self, selector: str, text: str, end: str = Keys.ENTER) -> None:
        """Types in place of what is there."""
        element = self.find(selector)
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text + end)

    def overflows(self) -> bool:
        """Whether the page must be scrolled sideways."""
        return bool(self.script("return document.documentElement.scrollWidth > window.innerWidth + 1"))
