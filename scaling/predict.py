"""`vnc scaling predict`: what to train with so many FLOPs or GPU-hours, by every fit of a study, with intervals."""

from __future__ import annotations

import json as json_module
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.fit_report import TITLES, fit_shown, shown
from scaling.load import load_study, run_folders
from scaling.results import Estimate, Fit, Method, Missing, Optimum, ParametricFit, numbers
from scaling.study import Convention, count, read_record
from vnc.depth import TrainingPlan, make_plan
from vnc.errors import UserError
from vnc.flops import count_parameters
from vnc.hardware import tabled_peak

DEEPEST = 64
FAR = 10
"""An answer for more than this many times the FLOPs of the largest run says so."""
OTHER_TOKENS = 1.25
"""So does one whose nearest depth, with this budget, reads more or fewer tokens than the optimum by this factor."""
DEFAULT_GPU = "H100"


def predict_command(
    flops: float | None = None,
    gpu_hours: float | None = None,
    mfu: float = 0.4,
    peak_tflops: float | None = None,
    csv: str | None = None,
    runs: str | None = None,
    convention: Convention = "matrices_and_head",
    drop_highest: int = 0,
    json: bool = False,
) -> None:
    """What to train with the compute you have: size, tokens, expected loss, and the depth that comes nearest.

    Args:
        flops: Training FLOPs to spend; or give gpu_hours.
        gpu_hours: Hours times GPUs to spend.
        mfu: Share of the GPUs' peak that training reaches.
        peak_tflops: Dense bf16 TFLOP/s of one GPU; an H100's when null.
        csv: File with a line for each run of the study, as for vnc scaling fit.
        runs: Folder that the study's runs are in.
        convention: What counts as a parameter in vnc's models: all; without_embeddings; matrices_and_head. With csv,
            choose what the file counts.
        drop_highest: Leave out this many runs of highest loss.
        json: Print JSON instead of a table.
    """
    budget = flops_to_spend(flops, gpu_hours, mfu, peak_tflops)
    study = load_study(csv, runs, convention, drop_highest)
    sizes = model_sizes(run_folders(Path(runs))) if runs is not None else {}
    prediction = predict(fit_shown(study), budget, convention, sizes)
    print(json_module.dumps(prediction.as_dict(), indent=1) if json else as_text(prediction))


def flops_to_spend(flops: float | None, gpu_hours: float | None, mfu: float, peak_tflops: float | None) -> float:
    """FLOPs, as given or as hours x peak x mfu. Raises UserError."""
    if (flops is None) == (gpu_hours is None):
        raise UserError("give either --flops or --gpu_hours: the compute to spend")
    for name, value in {"flops": flops, "gpu_hours": gpu_hours, "mfu": mfu, "peak_tflops": peak_tflops}.items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name}={value}: must be positive")
    if mfu > 1:
        raise UserError(f"mfu={mfu}: is a share of the peak, at most 1")
    if flops is not None:
        return flops
    assert gpu_hours is not None
    peak = peak_tflops * 1e12 if peak_tflops is not None else tabled_peak(DEFAULT_GPU)
    assert peak is not None
    return gpu_hours * 3600 * peak * mfu


@dataclass(frozen=True)
class Nearest:
    """The model of vnc whose size is nearest to an optimum."""

    plan: TrainingPlan
    parameters: int
    """By the study's convention."""
    loss: Estimate | None
    """Expected of it, where the study has a loss surface."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "depth": self.plan.depth,
            "parameters": self.parameters,
            "num_steps": self.plan.num_steps,
            "total_batch_tokens": self.plan.total_batch_tokens,
            "tokens": self.plan.train_tokens,
        } | (numbers(loss=self.loss) if self.loss else {"loss": None})


@dataclass(frozen=True)
class Prediction:
    flops: float
    loss_unit: str
    convention: str
    optima: tuple[tuple[Method, Optimum], ...]
    """By every method that can extrapolate; the first is the answer."""
    nearest: Nearest | None
    """None where no model of vnc comes within a factor of 2 of the answer, or not with these FLOPs."""
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "flops": self.flops,
            "convention": self.convention,
            "loss_unit": self.loss_unit,
            "answer": self.optima[0][0],
            "optima": {method: optimum.as_dict() for method, optimum in self.optima},
            "nearest": self.nearest.as_dict() if self.nearest else None,
            "notes": list(self.notes),
        }


def predict(fitted: Fit, flops: float, convention: Convention, sizes: dict[str, Any]) -> Prediction:
    """What to train with `flops`. `sizes`: arguments of vnc.depth.make_plan that the study's models share.

    The answer is the robust loss surface's, since its intervals cover and it tells a loss; else the spline's. Raises
    UserError where no method can extrapolate.
    """
    surfaces = {one.method: one.optimum(flops) for one in fitted.parametric_fits}
    curves = {one.method: one.optimum(flops) for one in fitted.isoflop_fits}
    order: tuple[Method, ...] = ("huber", "spline", "quadratic", "variable_projection")
    found = surfaces | curves
    optima = tuple((method, optimum) for method in order if (optimum := found.get(method)))
    if not optima:
        ways = (*(fit.parameters for fit in fitted.isoflop_fits), fitted.quadratic, fitted.spline, fitted.parametric,
                fitted.variable_projection)  # fmt: skip
        lacking = dict.fromkeys(way.what for way in ways if isinstance(way, Missing))
        raise UserError(f"nothing can be predicted: {'; '.join(lacking)}")
    largest = max(point.flops for point in fitted.study.points)
    notes = list(fitted.notes)
    if flops > FAR * largest:
        notes.append(f"{flops:.3g} FLOPs is {flops / largest:.0f} times the largest run: the intervals know nothing of "
                     "laws that bend beyond it")  # fmt: skip
    surface = next(iter(fitted.parametric_fits), None)
    nearest = nearest_depth(optima[0][1], convention, sizes, surface)
    if nearest and abs(math.log(nearest.plan.train_tokens / optima[0][1].tokens.value)) > math.log(OTHER_TOKENS):
        own, theirs = nearest.plan.flops_per_token / nearest.parameters, fitted.flops_per_parameter_token
        costs = f"depth {nearest.plan.depth} costs C = {own:.3g} N D, the study's models {theirs:.3g} N D on average"
        notes.append(f"{costs}: the budget trains it on {nearest.plan.train_tokens:.3g} tokens, not the optimum's")
    return Prediction(flops, fitted.study.loss_unit, fitted.study.convention, optima, nearest, tuple(notes))


def nearest_depth(
    optimum: Optimum, convention: Convention, sizes: dict[str, Any], surface: ParametricFit | None
) -> Nearest | None:
    """The depth whose parameters are nearest to the optimum's, in logs, with its plan for the budget."""
    best: Nearest | None = None
    least = math.log(2)
    for depth in range(1, DEEPEST + 1):
        try:
            plan = make_plan(depth, target_flops=optimum.flops, **sizes)
        except UserError:  # not one step
            continue
        counts = count_parameters(plan.config)
        groups = {"wte": counts.wte, "wpe": counts.wpe, "value_embeds": counts.value_embeds}
        parameters = count({**groups, "total": counts.total, "scaling": counts.scaling(plan.config)}, convention)
        distance = abs(math.log(parameters / optimum.parameters.value))
        if distance < least:
            least = distance
            loss = surface.loss(parameters, plan.train_tokens) if surface else None
            best = Nearest(plan, parameters, loss)
    return best


def model_sizes(folders: list[Path]) -> dict[str, Any]:
    """The arguments of make_plan that these runs share: preset, vocabulary, context, windows, heads, aspect ratio,
    and the batch if it is one for all."""
    plans = [read_record(folder)["plan"] for folder in folders]
    configs = [plan["config"] for plan in plans]
    first = configs[0]
    sizes: dict[str, Any] = {
        "preset": plans[0]["preset"],
        "vocab_size": first["vocab_size"],
        "sequence_len": first["sequence_len"],
        "window_pattern": first["window_pattern"],
        "head_dim": first["n_embd"] // first["n_head"],
    }
    batches = {plan["total_batch_tokens"] for plan in plans}
    if len(batches) == 1:  # chosen for the study: the rule's differ between depths
        sizes["total_batch_tokens"] = batches.pop()
    widths = {(config["n_layer"], config["n_embd"]) for config in configs}
    for aspect_ratio in range(1, max(width for _, width in widths) + 1):
        heads = sizes["head_dim"]
        if all(-(-depth * aspect_ratio // heads) * heads == width for depth, width in widths):
            return sizes | {"aspect_ratio": aspect_ratio}
    raise UserError(f"{folders[0].parent}: these runs have no aspect ratio in common; predict from one sweep at a time")


def as_text(prediction: Prediction) -> str:
    """The answer for people."""
    lines = [
        f"{prediction.flops:.3g} FLOPs, parameters: {prediction.convention}, 95% intervals in brackets",
        "",
        f"{'':<34}{'N_opt':<30}{'D_opt':<30}loss ({prediction.loss_unit})",
    ]
    for method, optimum in prediction.optima:
        loss = shown(optimum.loss, 4) if optimum.loss else ""
        lines.append(f"  {TITLES[method]:<32}{shown(optimum.parameters):<30}{shown(optimum.tokens):<30}{loss}".rstrip())
    lines.append("")
    if prediction.nearest is None:
        lines.append("no depth of vnc comes near that size")
    else:
        near, plan = prediction.nearest, prediction.nearest.plan
        lines.append(f"train: depth {plan.depth} ({near.parameters:.3g} parameters) for {plan.num_steps:,} steps of "
                     f"{plan.total_batch_tokens:,} tokens, {plan.train_tokens:.3g} in all")  # fmt: skip
        if near.loss:
            lines.append(f"expect: {shown(near.loss, 4)} {prediction.loss_unit}")
    lines += [f"note: {note}" for note in prediction.notes]
    return "\n".join(lines)
