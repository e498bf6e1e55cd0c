"""docs/task_mixture.md says what is so: its Python runs, and prints what stands below it."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import yaml

from datamodules.task_mixture import TaskMixture

GUIDE = Path(__file__).parents[3] / "docs" / "task_mixture.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


def test_python_prints_what_stands_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    namespace: dict[str, object] = {}
    for code, expected in zip(blocks("python"), blocks("text"), strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(GUIDE), "exec"), namespace)
        assert [line.rstrip() for line in printed.getvalue().strip().splitlines()] == expected.strip().splitlines()


def test_its_configuration_is_accepted() -> None:
    assert (found := blocks("yaml"))
    for block in found:
        TaskMixture(**yaml.safe_load(block)["data"]["init_args"])
