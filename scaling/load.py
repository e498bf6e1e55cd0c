"""Where a study comes from, as the verbs are told: run folders below a folder, or a CSV file."""

from __future__ import annotations

from pathlib import Path

from scaling.csv_study import read_csv
from scaling.study import Convention, Study, drop_highest, read_runs
from vnc.errors import UserError


def load_study(csv: str | None, runs: str | None, convention: Convention, drop: int) -> Study:
    """The study in file `csv` or below folder `runs`, without its `drop` runs of highest loss. `convention` counts the
    parameters of vnc's own runs; a file has counted its own. Raises UserError."""
    if (csv is None) == (runs is None):
        raise UserError("give either --csv FILE or --runs DIR: the runs to fit")
    if csv is not None:
        return drop_highest(read_csv(Path(csv)), drop)
    return drop_highest(read_runs(run_folders(Path(str(runs))), convention), drop)


def run_folders(folder: Path) -> list[Path]:
    """Every run of vnc at or below `folder`, in order. Hidden folders hold none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --runs takes the folder that the runs are in")
    found = sorted(
        record.parent
        for record in folder.rglob("run.json")
        if not any(part.startswith(".") for part in record.relative_to(folder).parts)
    )
    if not found:
        raise UserError(f"{folder}: no run of vnc in it (no run.json); --runs takes the folder that the runs are in")
    return found
