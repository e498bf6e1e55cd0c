"""The Runs page in a real browser while a real training runs: it fills by itself, and its curves move."""

from __future__ import annotations

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the app needs Streamlit: pip install 'vnc[app]'")
pytest.importorskip("selenium", reason="browser tests need selenium")

from tests.fitting import SMALL
from tests.launching import Process, rows, started, wait_for
from tests.streamlit_app.browser import Browser, app, needs_chromium, until

pytestmark = [needs_chromium, pytest.mark.slow]
LINES = "[data-testid=stVegaLiteChart] .mark-line path"
PICTURE = f"return [...document.querySelectorAll('{LINES}')].map(line => line.getAttribute('d')).join(' ')"
FAULT = "[data-testid=stException]"
LONG = ["--model.num_steps", "100000", "--trainer.val_check_interval", "50"]


def test_the_page_fills_and_its_curves_move_while_a_model_trains(tmp_path: Path) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log.txt"
    runs.mkdir()
    arguments = ["fit", "--trainer.accelerator", "cpu", *SMALL, *LONG, "--name", "live"]
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(2) as side_by_side:
        screens = {"wide": {}, "phone": {"width": 390, "height": 1_200, "dark": True}}
        coming = [side_by_side.submit(Browser, tmp_path / name, **screen) for name, screen in screens.items()]  # type: ignore[arg-type]
        address = opened.enter_context(app(runs, log))
        wide, phone = windows = [each.result() for each in coming]
        for each in windows:
            opened.callback(each.close)
            each.go(f"{address}/runs")
        for each in windows:
            until(lambda each=each: any("make train" in text for text in each.texts("[data-testid=stCode]")))  # type: ignore[misc]
        (training,) = opened.enter_context(started(Process(tmp_path, "-m", "cli", *arguments)))
        wait_for(lambda: rows(runs / "live") > 5, training)
        before = until(lambda: wide.script(PICTURE))  # nobody has touched the page
        seen = rows(runs / "live")
        wait_for(lambda: rows(runs / "live") > seen + 20, training)
        until(lambda: wide.script(PICTURE) != before)
        until(lambda: phone.script(PICTURE))
        assert not phone.overflows() and not wide.overflows()
        assert not wide.texts(FAULT) and not phone.texts(FAULT)
        training.popen.send_signal(signal.SIGTERM)  # it ends while the other pages are looked at
        for page in ("evals", "scaling", "plan"):
            for each in windows:
                each.go(f"{address}/{page}")
            for each in windows:
                until(lambda each=each, page=page: page.title() in each.texts("h2"))  # type: ignore[misc]
                assert not each.texts(FAULT) and not each.overflows()
    assert "Traceback" not in log.read_text()
