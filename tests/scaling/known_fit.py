"""A study drawn from a known surface and a fit of it made of that surface, without fitting: for figures and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scaling.results import (
    COEFFICIENTS,
    Array,
    Budget,
    Curve,
    Estimate,
    Fit,
    IsoFlopFit,
    Method,
    Missing,
    Optimum,
    ParametricFit,
    PowerLaw,
)
from scaling.study import Excluded, Point, Study
from vnc.config import GPTConfig
from vnc.depth import make_plan
from vnc.evals.bootstrap import Interval
from vnc.flops import count_parameters

SURFACE = dict(E=0.62, A=60.0, B=400.0, alpha=0.31, beta=0.34)
TINY_SURFACE = dict(E=0.9, A=20.0, B=33.0, alpha=0.31, beta=0.34)  # best sizes of 0.2M to 0.6M at 5e11 to 4e12 FLOPs
BUDGETS = (1e18, 2e18, 3e18, 6e18)
SIZES = np.geomspace(4e7, 6e8, 9)


def loss(parameters: float | Array, tokens: float | Array, s: dict[str, float] = SURFACE) -> Any:
    return s["E"] + s["A"] * parameters ** -s["alpha"] + s["B"] * tokens ** -s["beta"]


def known_study(excluded: tuple[Excluded, ...] = (Excluded("d14_6e18_s1", "failed: loss is not finite"),)) -> Study:
    rng = np.random.default_rng(0)
    points = [
        Point(f"n{size:.2g}_c{budget:.2g}_s{seed}", size, budget / 6 / size, budget,
              float(loss(size, budget / 6 / size)) + rng.normal(0, 0.0015), seed, budget)
        for budget in BUDGETS for size in SIZES for seed in (1, 2)
    ]  # fmt: skip
    return Study(tuple(points), "bits per byte", "matrices_and_head", excluded)


def estimate(value: float, share: float = 0.06) -> Estimate:
    return Estimate(float(value), Interval(float(value * (1 - share)), float(value * (1 + share))))


def known_budget(flops: float, study: Study, excluded: str | None = None) -> Budget:
    points = [point for point in study.points if point.budget == flops]
    sizes = sorted({point.parameters for point in points})
    means = [float(np.mean([point.loss for point in points if point.parameters == size])) for size in sizes]
    grid = np.geomspace(sizes[0], sizes[-1], 200)
    fitted = np.polynomial.Polynomial.fit(np.log(sizes), means, 2)
    curve = Curve(grid, fitted(np.log(grid)))
    best = float(grid[curve.losses.argmin()])
    optimum = Optimum(flops, estimate(best), estimate(flops / 6 / best), estimate(float(curve.losses.min()), 0.003))
    return Budget(flops, tuple(sizes), tuple(flops / 6 / size for size in sizes), tuple(means), len(points), curve,
                  None if excluded else optimum, excluded)  # fmt: skip


def known_isoflop(study: Study, method: Method, excluded: dict[float, str]) -> IsoFlopFit:
    budgets = tuple(known_budget(flops, study, excluded.get(flops)) for flops in BUDGETS)
    kept = [budget.optimum for budget in budgets if budget.optimum]
    rng = np.random.default_rng(1)

    def law(values: list[float]) -> PowerLaw | Missing:
        if len(kept) < 2:
            return Missing("A power law takes at least two budgets with an optimum.")
        exponent, log_coefficient = np.polyfit(np.log([best.flops for best in kept]), np.log(values), 1)
        middle = float(np.log([best.flops for best in kept]).mean())
        slopes = exponent + rng.normal(0, 0.02, 200)
        draws = np.stack([log_coefficient + (exponent - slopes) * middle + rng.normal(0, 0.03, 200), slopes], axis=1)
        return PowerLaw(Estimate.of(float(np.exp(log_coefficient)), np.exp(draws[:, 0])),
                        Estimate.of(exponent, slopes), draws)  # fmt: skip

    return IsoFlopFit(method, budgets, law([best.parameters.value for best in kept]),
                      law([best.tokens.value for best in kept]))  # fmt: skip


def known_parametric(method: Method, shift: float = 1.0) -> ParametricFit:
    centre = np.array([SURFACE[name] for name in COEFFICIENTS]) * np.array([1, 1, 1, shift, 1])
    draws = centre * (1 + np.random.default_rng(2).normal(0, 0.01, (200, 5)))
    values = {name: Estimate.of(centre[i], draws[:, i]) for i, name in enumerate(COEFFICIENTS)}
    return ParametricFit(method, **values, objective=1e-3, flops_per_parameter_token=6.0, draws=draws)


def known_fit(study: Study | None = None, excluded: dict[float, str] | None = None, **changes: Any) -> Fit:
    study = study or known_study()
    left_out = excluded or {}
    parts: dict[str, Any] = dict(
        quadratic=known_isoflop(study, "quadratic", left_out),
        spline=known_isoflop(study, "spline", left_out),
        parametric=known_parametric("huber"),
        variable_projection=known_parametric("variable_projection", 1.02),
    )
    return Fit(study, 6.0, **(parts | changes), notes=("Two seeds a size are few.",))


def write_run(folder: Path, depth: int, budget: float, status: str = "finished", validations: int = 6) -> Path:
    """A run folder with the record that a run of this plan leaves, its losses from the surface."""
    plan = make_plan(depth, vocab_size=2048, sequence_len=256, aspect_ratio=16, head_dim=16, target_flops=budget,
                     total_batch_tokens=4096)  # fmt: skip
    config: GPTConfig = plan.config
    counts = count_parameters(config)
    size = counts.scaling(config)
    steps = [max(1, plan.num_steps * (i + 1) // validations) for i in range(validations)]
    noise = np.random.default_rng(depth * int(budget / 1e9)).normal(0, 0.002)
    losses = [float(loss(size, step * 4096, TINY_SURFACE)) + noise for step in steps]
    record = {
        "status": status,
        "name": folder.name,
        "plan": plan.to_dict(),
        "params": {name: getattr(counts, name) for name in counts.__dataclass_fields__}
        | {"total": counts.total, "scaling": size},
        "flops_per_token": plan.flops_per_token,
        "train": [{"step": step - 1, "loss": 3 * value, "loss_ema": 3.1 * value}
                  for step, value in zip(steps, losses, strict=True)],
        "val": [{"step": step, "bits_per_byte": value} for step, value in zip(steps, losses, strict=True)],
        "seed": 1,
        "budget": budget,
    } | ({} if status == "finished" else {"reason": "loss is not finite"})  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    return folder
