"""The Runs page in a real browser while a real training runs: it fills by itself, and its curves move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the app needs Streamlit: pip install 'vnc[app]'")
pytest.importorskip("selenium", reason="browser tests need selenium")

from tests.fitting import SMALL
from tests.launching import fit, rows, started, wait_for
from tests.streamlit_app.browser import Browser, app, needs_chromium, until

pytestmark = [needs_chromium, pytest.mark.slow]
LINES = "[data-testid=stVegaLiteChart] .mark-line path"
PICTURE = f"return [...document.querySelectorAll('{LINES}')].map(line => line.getAttribute('d')).join(' ')"
FAULT = "[data-testid=stException]"
LONG = ["--model.num_steps", "100000", "--trainer.val_check_interval", "50"]


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    windows: list[Browser] = []

    def open_window(**options: object) -> Browser:
        windows.append(Browser(tmp_path / f"window{len(windows)}", **options))  # type: ignore[arg-type]
        return windows[-1]

    yield open_window
    for each in windows:
        each.close()


def test_the_page_fills_and_its_curves_move_while_a_model_trains(
    tmp_path: Path, window: Callable[..., Browser]
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log.txt"
    runs.mkdir()
    with app(runs, log) as address:
        wide, phone = window(), window(width=390, height=1_200, dark=True)
        for each in (wide, phone):
            each.go(f"{address}/runs")
            until(lambda each=each: any("make train" in text for text in each.texts("[data-testid=stCode]")))  # type: ignore[misc]
        training = fit(tmp_path, *SMALL, *LONG, "--name", "live")
        with started(training):
            wait_for(lambda: rows(runs / "live") > 5, training)
            before = until(lambda: wide.script(PICTURE))  # nobody has touched the page
            seen = rows(runs / "live")
            wait_for(lambda: rows(runs / "live") > seen + 20, training)
            until(lambda: wide.script(PICTURE) != before)
            until(lambda: phone.script(PICTURE))
            assert not phone.overflows() and not wide.overflows()
        assert not wide.texts(FAULT) and not phone.texts(FAULT)
        for page in ("evals", "scaling", "plan"):
            for each in (wide, phone):
                each.go(f"{address}/{page}")
                until(lambda each=each, page=page: page.title() in each.texts("h2"))  # type: ignore[misc]
                assert not each.texts(FAULT) and not each.overflows()
    assert "Traceback" not in log.read_text()
