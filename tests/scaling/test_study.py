import json
from pathlib import Path

import pytest

from scaling.study import Point, count, read_run, read_runs
from tests.scaling.known_fit import write_run
from vnc.errors import UserError


def test_a_run_as_a_point(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "d4", 4, 4e12)
    record = json.loads((folder / "run.json").read_text())
    point = read_run(folder, "all")
    assert isinstance(point, Point)
    assert point.tokens == record["plan"]["num_steps"] * record["plan"]["total_batch_tokens"]
    assert point.flops == point.tokens * record["flops_per_token"]
    assert point.loss == record["val"][-1]["bits_per_byte"]
    assert point.parameters == record["params"]["total"]
    assert (point.budget, point.seed) == (4e12, 1)


def test_conventions() -> None:
    groups = dict(
        wte=100, wpe=10, value_embeds=200, lm_head=100, transformer_matrices=50, scalars=5, total=465, scaling=150
    )
    assert [count(groups, c) for c in ("all", "without_embeddings", "matrices_and_head")] == [465, 155, 150]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(status="failed", reason="loss is not finite"), "failed: loss is not finite"),
        (dict(status="running"), "running"),
        (dict(val=[]), "no validation in its record"),
        (dict(val=[dict(step=1, bits_per_byte=float("nan"))]), "its last validation is nan"),
        (dict(val=[dict(step=1, bits_per_byte=None)]), "its last validation is None"),
    ],
)
def test_runs_that_say_nothing_are_excluded_by_name(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    folder = write_run(tmp_path / "d4", 4, 4e12)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | change))
    study = read_runs([folder], "all")
    assert study.points == ()
    assert [(one.name, one.reason) for one in study.excluded] == [("d4", reason)]


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run of vnc"):
        read_run(tmp_path, "all")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="not a run record"):
        read_run(tmp_path, "all")
