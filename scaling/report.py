"""`vnc scaling plot`: all figures of a study, as PNG and SVG, and a report in Markdown, into one folder."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from scaling.fit import fit
from scaling.fit_report import fit_shown, shown_progress
from scaling.flop_check import FlopCheck, check_model
from scaling.load import load_study, run_folders
from scaling.plots.flops_by_budget import RunFlops, flops_by_budget
from scaling.plots.flops_by_depth import flops_by_depth
from scaling.plots.isoflop import isoflop
from scaling.plots.loss_curves import loss_curves
from scaling.plots.optima import methods, optima
from scaling.plots.style import save
from scaling.plots.tokens_per_parameter import tokens_per_parameter
from scaling.predict import Prediction, model_sizes, predict
from scaling.report_text import HEADING, Picture, report
from scaling.results import Fit, IsoFlopFit
from scaling.study import CONVENTIONS, Convention, count, read_record
from scaling.traces import read_traces
from vnc.config import GPTConfig
from vnc.errors import UserError

AHEAD = (2.0, 5.0, 10.0)
"""Budgets answered for when none are named, in multiples of the largest run's FLOPs."""
REPORT = "report.md"


def plot(
    out: str,
    runs: str | None = None,
    csv: str | None = None,
    convention: Convention = "matrices_and_head",
    drop_highest: int = 0,
    budgets: list[float] | None = None,
) -> None:
    """Draw all figures of a scaling study and write its report.

    Args:
        out: Folder for report.md and the figures; an earlier report in it is replaced.
        runs: Folder that vnc's own runs are in, at any depth.
        csv: File with a line for each run, as for vnc scaling fit.
        convention: What counts as a parameter in vnc's runs: all; without_embeddings; matrices_and_head. A file has
            counted its own.
        drop_highest: Leave out this many runs of highest loss.
        budgets: FLOPs to say what to train with; 2, 5 and 10 times the largest run's when null.
    """
    folder = Path(out)
    check_place(folder)
    study = load_study(csv, runs, convention, drop_highest)
    folders = run_folders(Path(runs)) if runs is not None else []
    if folders:
        with shown_progress() as progress:
            fitted = fit(study, progress=progress)
    else:
        fitted = fit_shown(study)
    pictures = [*draw_fit(fitted, folder), *(draw_runs(fitted, folders, convention, folder) if folders else [])]
    predictions = predict_all(fitted, folders, convention, budgets)
    counted = None if convention == "matrices_and_head" else convention
    arguments = {"--runs": runs, "--csv": csv, "--convention": counted, "--drop_highest": drop_highest or None}
    shared = shlex.join([part for name, value in arguments.items() if value is not None for part in (name, str(value))])
    asked = f" --budgets {shlex.quote(str([*budgets]))}" if budgets else ""
    commands = [f"vnc scaling plot {shared} --out {shlex.quote(out)}{asked}", f"vnc scaling fit {shared} --json"]
    if predictions:
        commands.append(f"vnc scaling predict {shared} --flops {predictions[0].flops:.4g}")
    write_text(folder / REPORT, report(fitted, predictions, pictures, commands))
    print(f"{folder / REPORT}: {len(study.points)} runs, {len(pictures)} figures")


def check_place(folder: Path) -> None:
    """Raises UserError where the folder holds a report.md that is not ours."""
    place = folder / REPORT
    if place.is_file() and not place.read_text(encoding="utf-8", errors="replace").startswith(HEADING):
        raise UserError(f"{place}: not a report of vnc scaling plot; choose another folder with --out")


def write_text(path: Path, text: str) -> None:
    """Written beside its place, flushed, then renamed: a reader finds the old file or the new one, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def predict_all(
    fitted: Fit, folders: Sequence[Path], convention: Convention, budgets: Sequence[float] | None
) -> list[Prediction]:
    """What to train with each budget, ascending; nothing where no method can extrapolate. Depths of vnc are named only
    for vnc's own runs. Raises UserError."""
    if budgets and not all(flops > 0 for flops in budgets):
        raise UserError(f"budgets={list(budgets)}: FLOPs are positive")
    if not methods(fitted):
        return []
    largest = max(point.flops for point in fitted.study.points)
    asked = sorted(budgets or [float(f"{times * largest:.1e}") for times in AHEAD])  # as the report writes them
    if not folders:
        return [dataclasses.replace(predict(fitted, flops, convention, {}), nearest=None) for flops in asked]
    sizes = model_sizes(list(folders))
    return [predict(fitted, flops, convention, sizes) for flops in asked]


def draw_fit(fitted: Fit, folder: Path) -> list[Picture]:
    """The figures that need the fit alone."""
    pictures = []
    curves = {"isoflop": fitted.quadratic, "isoflop_spline": fitted.spline}
    for name, one in curves.items():
        if isinstance(one, IsoFlopFit):
            save(isoflop(fitted.study, one), folder, name)
            way = "a parabola" if name == "isoflop" else "a smoothing spline"
            pictures.append(Picture(
                name, f"IsoFLOP curves, {way} through each",
                "Runs that cost the same, one curve for each budget: too small a model wastes its tokens, too large "
                "a one sees too few. The star is the best size, its bar the 95% interval.",
            ))  # fmt: skip
    if methods(fitted):
        save(optima(fitted), folder, "optima")
        save(tokens_per_parameter(fitted), folder, "tokens_per_parameter")
        pictures.append(Picture(
            "optima", "Optimal size and tokens against compute",
            "Dots are the optima of the budgets (full: parabola, open: spline). A line that reaches beyond them is an "
            "extrapolation; where lines part, the methods disagree.",
        ))  # fmt: skip
        pictures.append(Picture(
            "tokens_per_parameter", "Tokens per parameter at the optimum",
            "A level line would mean that one ratio fits all budgets.",
        ))  # fmt: skip
    return pictures


def draw_runs(fitted: Fit, folders: Sequence[Path], convention: Convention, folder: Path) -> list[Picture]:
    """The figures that need the run records."""
    pictures = []
    traces = read_traces(folders, convention)
    if traces.runs:
        save(loss_curves(fitted.study, traces), folder, "loss_curves")
        pictures.append(Picture(
            "loss_curves", "Loss against tokens and against compute",
            "Every run from start to end. Before its warm-down a run lies above what a run of that length would reach, "
            "so only the ends compare; the frontier takes whatever was lowest.",
        ))  # fmt: skip
    checks, of_runs = count_runs(fitted, folders)
    if of_runs:
        save(flops_by_depth(checks), folder, "flops_by_depth")
        save(flops_by_budget(of_runs), folder, "flops_by_budget")
        pictures.append(Picture(
            "flops_by_depth", "FLOPs reckoned against FLOPs counted, by depth",
            "The models of this study, counted by torch. The fits use the plan's formula, not 6ND.",
        ))  # fmt: skip
        pictures.append(Picture(
            "flops_by_budget", "FLOPs reckoned against the budget asked for",
            "How near the runs came to their budgets, and what 6ND would have said of them.",
        ))  # fmt: skip
    return pictures


def count_runs(fitted: Fit, folders: Sequence[Path]) -> tuple[list[FlopCheck], list[RunFlops]]:
    """The FLOPs of the study's runs by every reckoning; each distinct model is counted once."""
    part = {point.name: point for point in fitted.study.points}
    checks: dict[GPTConfig, FlopCheck] = {}
    of_runs = []
    for folder in folders:
        if folder.name not in part:
            continue
        record = read_record(folder)
        plan, tokens = record["plan"], part[folder.name].tokens
        config = GPTConfig.from_dict(plan["config"], str(folder / "run.json"))
        if config not in checks:
            checks[config] = check_model(plan["preset"], config.n_layer, config)
        point = part[folder.name]
        six_nd = {one: 6.0 * count(record["params"], one) * tokens for one in CONVENTIONS}
        of_runs.append(RunFlops(point.budget or point.flops, point.flops, checks[config].counted * tokens, six_nd))
    return list(checks.values()), of_runs
