"""Scaling studies below the runs folder: folders of runs, tables of runs from elsewhere, and reports made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scaling.csv_study import read_csv
from scaling.report_text import HEADING
from scaling.study import Convention, Excluded, Point, Study, read_run
from streamlit_app.live_files import folders
from streamlit_app.run_reader import NUMBERS, RECORD
from vnc.errors import UserError

LEAST_RUNS = 3
"""Fewer are no study."""
REPORT = "report.md"
LARGEST_REPORT = 2**20  # bytes


@dataclass(frozen=True)
class Source:
    """Where a study's runs are."""

    name: str
    """Relative to the runs folder."""
    runs: tuple[Path, ...] = ()
    csv: Path | None = None

    @property
    def counted_here(self) -> bool:
        """Whether vnc counts the parameters, so that the convention can be chosen."""
        return self.csv is None


@dataclass(frozen=True)
class Report:
    """What `vnc scaling plot` has left in a folder."""

    name: str
    folder: Path
    figures: tuple[Path, ...]


def find_studies(root: Path) -> tuple[list[Source], list[Report]]:
    """All below `root`: folders with three runs or more in them, CSV files that are no run's own, and reports."""
    runs: dict[Path, list[Path]] = {}
    tables, reports = [], []
    for folder, files in folders(root):
        name = folder.relative_to(root).as_posix()
        if RECORD in files or NUMBERS in files:
            runs.setdefault(folder.parent, []).append(folder)
        elif folder.name != "evals":
            tables += [Source((folder / file).relative_to(root).as_posix(), csv=folder / file)
                       for file in files if file.endswith(".csv")]  # fmt: skip
            if REPORT in files and _is_report(folder / REPORT):
                figures = tuple(folder / file for file in files if file.endswith(".png"))
                reports.append(Report(name, folder, figures))
    sources = [
        Source("the runs folder itself" if parent == root else parent.relative_to(root).as_posix(), tuple(found))
        for parent, found in runs.items()
        if len(found) >= LEAST_RUNS
    ]
    return [*sorted(sources, key=lambda each: each.name), *tables], reports


def read_study(source: Source, convention: Convention) -> Study:
    """The finished runs of a source; whatever cannot be read is excluded by name. Raises UserError for a CSV file that
    holds no study."""
    if source.csv is not None:
        return read_csv(source.csv)
    points: list[Point] = []
    excluded: list[Excluded] = []
    for folder in source.runs:
        try:
            found = read_run(folder, convention)
        except (UserError, KeyError, TypeError, ValueError) as error:
            excluded.append(Excluded(folder.name, f"its record cannot be read ({type(error).__name__}: {error})"))
            continue
        if isinstance(found, Point):
            points.append(found)
        else:
            excluded.append(found)
    return Study(tuple(points), "bits per byte", convention, tuple(excluded))


def read_report(report: Report) -> str:
    """Its text, at most a megabyte."""
    with (report.folder / REPORT).open(encoding="utf-8", errors="replace") as file:
        return file.read(LARGEST_REPORT)


def _is_report(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(len(HEADING)) == HEADING
    except OSError:
        return False
