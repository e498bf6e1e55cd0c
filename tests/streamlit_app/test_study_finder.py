"""Studies and reports are found below the runs folder, and one broken run does not hide the others."""

import csv
import json
from pathlib import Path

import pytest

from scaling.fit import fit
from scaling.report_text import HEADING
from streamlit_app.scaling_charts import growth, isoflop, optima_rows
from streamlit_app.study_finder import find_studies, read_report, read_study
from tests.scaling.laws import exact_study
from vnc.errors import UserError


def write_csv(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "parameters", "tokens", "flops", "loss", "budget"])
        for point in exact_study().points:
            writer.writerow([point.name, point.parameters, point.tokens, point.flops, point.loss, point.budget])
    return path


def write_run(folder: Path, size: int, status: str = "finished") -> None:
    folder.mkdir(parents=True)
    params = {"total": 3 * size, "wte": size, "wpe": 0, "value_embeds": size, "scaling": size}
    record = {"status": status, "plan": {"num_steps": 10, "total_batch_tokens": 512}, "params": params,
              "flops_per_token": 6 * size, "val": [{"step": 10, "bits_per_byte": 2.0}], "budget": 1e9}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))


def test_folders_of_runs_tables_and_reports_are_found(tmp_path: Path) -> None:
    for size in (100, 200, 400):
        write_run(tmp_path / "sweep" / f"d{size}", size)
    write_run(tmp_path / "tiny", 100)
    (tmp_path / "tiny/evals").mkdir()
    (tmp_path / "tiny/evals/core_step_1.csv").write_text("a,b\n")
    write_csv(tmp_path / "elsewhere/runs.csv")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/report.md").write_text(f"{HEADING}\n\n<b>x</b>\n")
    (tmp_path / "out/isoflop.png").write_bytes(b"")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/report.md").write_text("# My notes\n")
    sources, reports = find_studies(tmp_path)
    assert [source.name for source in sources] == ["sweep", "elsewhere/runs.csv"]
    (report,) = reports
    assert (report.name, [figure.name for figure in report.figures]) == ("out", ["isoflop.png"])
    assert read_report(report).endswith("<b>x</b>\n")
    study = read_study(sources[0], "all")
    assert {point.parameters for point in study.points} == {300, 600, 1200}


def test_broken_and_unfinished_runs_are_left_out_by_name(tmp_path: Path) -> None:
    for size in (100, 200, 400):
        write_run(tmp_path / f"d{size}", size)
    write_run(tmp_path / "going_on", 300, "running")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    odd = json.loads((tmp_path / "d100/run.json").read_text()) | {"plan": []}
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/run.json").write_text(json.dumps(odd))
    (source,) = find_studies(tmp_path)[0]
    study = read_study(source, "matrices_and_head")
    assert len(study.points) == 3 and {one.name for one in study.excluded} == {"going_on", "broken", "odd"}


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (source,) = find_studies(tmp_path)[0]
    with pytest.raises(UserError, match=r"a\.csv"):
        read_study(source, "all")


def test_charts_hold_every_run_and_every_minimum(tmp_path: Path) -> None:
    study = exact_study()
    fitted = fit(study, draws=20)
    for one in fitted.isoflop_fits:
        layers = isoflop(one, study.loss_unit).to_dict(validate=False)
        rows = list(layers["datasets"].values())
        runs = next(table for table in rows if table and "left out" in table[0])
        assert sorted(row["loss"] for row in runs) == sorted(point.loss for point in study.points)
        stars = next(table for table in rows if table and "low" in table[0] and "budget" in table[0])
        assert [row["N"] for row in stars] == [best.parameters.value for best in one.optima]
    assert len(optima_rows(fitted.isoflop_fits)) == sum(len(one.budgets) for one in fitted.isoflop_fits)
    for side in ("parameters", "tokens"):
        drawn = growth(fitted, side)
        assert drawn is not None
        lines = next(iter(drawn.to_dict(validate=False)["datasets"].values()))
        assert {row["method"] for row in lines} >= {"isoFLOP, parabola", "parametric, Huber"}
