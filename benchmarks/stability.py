"""What each guard of training holds, measured: small models trained with the guard on and off, several seeds.

    python benchmarks/stability.py --data DIR --out docs/figures [--seeds 1 2 3] [--steps 150] [--processes 2]

DIR holds Parquet files with a column `text`; the models read its bytes. Prints a Markdown table for each guard and
draws `stability_*.png` in the folder `--out`. docs/stability.md explains them.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vnc import attention
from vnc.depth import TrainingPlan, make_plan
from vnc.gpt import GPT
from vnc.loss import cap_logits
from vnc.optimizer import MuonAdamW
from vnc.rows import inputs_and_targets

BYTES, SEQUENCE_LEN, ROWS = 256, 64, 16
PROBE_ROWS, PROBE_EVERY = 16, 5
SPOILED = (0.4, 0.55, 0.7)  # of the run: three steps in which every row repeats one byte
ADAMW_SCALE = {"modern": 0.25, "gpt2": 4.0}  # factors on the plan's rates
MATRIX_LR = 0.02


@dataclass(frozen=True)
class Case:
    """One run: what it belongs to, what sets it apart, and how."""

    guard: str
    name: str
    rate: float = 1.0
    """Factor on all learning rates."""
    preset: Any = "modern"
    config: dict[str, Any] = field(default_factory=dict)
    """Changes of the model's configuration."""
    warmup: int = 20
    z_loss: float = 0.0
    clip_norm: float = math.inf
    spoiled: bool = False
    """Whether the batches at `SPOILED` are."""
    sgd: float = 0.0
    """Learning rate of plain SGD with momentum 0.9, which then takes the place of Muon and AdamW."""
    compute: torch.dtype = torch.float32
    weights: torch.dtype = torch.float32
    """What the weights are rounded to after each step."""


@dataclass
class Curves:
    """Measured at each step (loss, gradient_norm) and each `PROBE_EVERY` steps on rows never trained on (the rest)."""

    loss: list[float] = field(default_factory=list)
    """Mean nats a byte of the step's batch."""
    gradient_norm: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    """Mean nats a byte."""
    score: list[float] = field(default_factory=list)
    """Largest |scale q.k| that any query of any layer sees."""
    logit: list[float] = field(default_factory=list)
    """Largest |logit| before the cap."""
    log_z: list[float] = field(default_factory=list)
    """Root mean square of log Z, after the cap."""


def cases() -> Iterator[Case]:
    for rate in (1.0, 4.0, 16.0, 64.0):
        yield Case("QK-norm", "with QK-norm", rate)
        yield Case("QK-norm", "without", rate, config={"qk_scale": 0.0})
    for rate in (1, 16, 64):
        yield Case("softcap and z-loss", "cap 15", rate)
        for z_loss in (0.0, 1e-4, 1e-2):
            name = f"no cap, z-loss {z_loss:g}"
            yield Case("softcap and z-loss", name, rate, config={"logit_softcap": 0.0}, z_loss=z_loss)
    for preset, rate, warmup in itertools.product(("modern", "gpt2"), (1, 4, 16), (0, 40)):
        yield Case("warm-up", f"{preset}, {warmup} steps", rate, preset, warmup=warmup)
    for clip in (math.inf, 1.0):
        name = "none" if clip == math.inf else f"to {clip:g}"
        for spoiled in (False, True):
            yield Case("clipping, Muon and AdamW", name, clip_norm=clip, spoiled=spoiled)
            for rate in (1, 5):
                yield Case("clipping, SGD", name, rate, clip_norm=clip, spoiled=spoiled, sgd=0.1, preset="gpt2")
    for rate in (0.01, 0.05, 1):
        yield Case("precision", "fp32 products, fp32 weights", rate)
        yield Case("precision", "bf16 products, fp32 weights", rate, compute=torch.bfloat16)
        yield Case("precision", "bf16 products, bf16 weights", rate, compute=torch.bfloat16, weights=torch.bfloat16)
    for rate in (1, 4, 16, 64):
        yield Case("preset", "modern", rate)
        yield Case("preset", "gpt2", rate, "gpt2")
        yield Case("preset", "gpt2 with QK-norm", rate, "gpt2", config={"qk_scale": 1.2})


def plan_of(case: Case, steps: int) -> TrainingPlan:
    """Two layers, 64 wide, heads of 16; 16 rows of 64 bytes a step."""
    plan = make_plan(
        2, preset=case.preset, vocab_size=BYTES, aspect_ratio=32, head_dim=16, sequence_len=SEQUENCE_LEN,
        window_pattern="L", total_batch_tokens=ROWS * SEQUENCE_LEN, device_batch_size=ROWS, num_steps=steps,
        warmup_steps=case.warmup, lr_scale=case.rate * ADAMW_SCALE[case.preset], matrix_lr=case.rate * MATRIX_LR,
    )  # fmt: skip
    return dataclasses.replace(plan, config=dataclasses.replace(plan.config, **case.config))


def read_bytes(folder: Path, wanted: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The first `wanted` bytes of the folder's texts, documents one behind the other."""
    texts: list[bytes] = []
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(columns=["text"]):
            texts += [text.encode() for text in batch.column(0).to_pylist()]
            if sum(map(len, texts)) >= wanted:
                return np.frombuffer(b"\0".join(texts)[:wanted], dtype=np.uint8)
    raise SystemExit(f"{folder}: less than {wanted:,} bytes of text in *.parquet; give another --data")


def train(case: Case, seed: int, steps: int, data: torch.Tensor) -> Curves:
    """data: (rows, SEQUENCE_LEN + 1) bytes; the first `PROBE_ROWS` are never trained on."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    plan = plan_of(case, steps)
    gpt = GPT(plan.config, case.compute)
    gpt.init_weights(generator)
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(gpt.parameters(), case.rate * case.sgd, momentum=0.9) if case.sgd else MuonAdamW(gpt, plan)
    )
    order = PROBE_ROWS + torch.randperm(len(data) - PROBE_ROWS, generator=generator)[: steps * ROWS]
    spoiled = {round(share * steps) for share in SPOILED} if case.spoiled else set()
    curves = Curves()
    for step, chosen in enumerate(order.view(steps, ROWS)):
        if step % PROBE_EVERY == 0:
            probe(gpt, data[:PROBE_ROWS], curves)
        rows = data[chosen]
        if step in spoiled:
            rows = rows[:, :1].expand_as(rows)
        inputs, targets = inputs_and_targets(rows)
        loss = gpt.summed_loss(inputs, targets, case.z_loss) / targets.numel()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = gradient_norm(gpt)
        curves.loss.append(float(loss.detach()))
        curves.gradient_norm.append(norm)
        if not math.isfinite(norm):
            break  # as callbacks/stop_guard.py does
        factor = min(1.0, case.clip_norm / (norm + 1e-6))
        if isinstance(optimizer, MuonAdamW):
            optimizer.finish_gradients()
            optimizer.scale_gradients(torch.tensor(factor))
            optimizer.set_schedule(plan, step)
        elif factor < 1:
            for parameter in gpt.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(factor)
        optimizer.step()
        optimizer.zero_grad()
        if case.weights != torch.float32:
            round_weights(gpt, case.weights)
    probe(gpt, data[:PROBE_ROWS], curves)
    return curves


@torch.no_grad()
def gradient_norm(gpt: GPT) -> float:
    squares = [parameter.grad.double().square().sum() for parameter in gpt.parameters() if parameter.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


@torch.no_grad()
def round_weights(gpt: GPT, dtype: torch.dtype) -> None:
    for parameter in gpt.parameters():
        parameter.copy_(parameter.to(dtype))


@torch.no_grad()
def probe(gpt: GPT, rows: torch.Tensor, curves: Curves) -> None:
    """Append what is measured on `rows` to `curves`."""
    scores: list[float] = []

    def watched(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float) -> torch.Tensor:
        positions = torch.arange(q.size(2))
        seen = attention.visible(positions, positions, window)
        scores.append(float((q.float() @ k.float().mT * scale).abs().masked_fill(~seen, 0).max()))
        return attention.attention(q, k, v, window, scale)

    inputs, targets = inputs_and_targets(rows)
    with mock.patch("vnc.gpt.attention", watched):
        hidden = gpt(inputs)
    logits = (hidden @ gpt.head[:BYTES].to(hidden.dtype).mT).float()
    log_z = cap_logits(logits, gpt.config.logit_softcap).logsumexp(-1)
    curves.held_out.append(float(gpt.token_losses(inputs, targets).mean()))
    curves.score.append(max(scores))
    curves.logit.append(float(logits.abs().max()))
    curves.log_z.append(float(log_z.square().mean().sqrt()))


Results = dict[str, dict[tuple[str, float, bool], list[Curves]]]
"""By guard; then by name, rate and whether batches were spoiled: the curves of each seed."""


def run_all(data: torch.Tensor, seeds: list[int], steps: int, processes: int) -> Results:
    tasks = [(case, seed, steps, data) for case in cases() for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = pool.starmap(train, tasks, chunksize=1)
    results: Results = {}
    for (case, *_), curves in zip(tasks, found, strict=True):
        key = case.name, case.rate, case.spoiled
        results.setdefault(case.guard, {}).setdefault(key, []).append(curves)
    return results


def tables(results: Results) -> str:
    """A Markdown table for each guard: the loss at the end with its lowest and highest seed, the rest at its largest in
    the run; means over the seeds."""
    head = (
        "| {} | rate x | held-out nats a byte | score | logit | log Z | gradient norm |\n|---|---|---|---|---|---|---|"
    )
    lines = []
    for guard, runs in results.items():
        lines += [f"\n**{guard}**\n", head.format(guard)]
        for (name, rate, spoiled), seeds in runs.items():
            final = [curves.held_out[-1] for curves in seeds]
            spread = f"{statistics.mean(final):.3f} ({min(final):.3f} to {max(final):.3f})"
            loss = "diverged" if diverged(seeds) else spread
            peaks = (
                statistics.mean(max(getattr(curves, key)) for curves in seeds)
                for key in ("score", "logit", "log_z", "gradient_norm")
            )
            label = name + (", spoiled batches" if spoiled else "")
            lines.append(f"| {label} | {rate:g} | {loss} | " + " | ".join(f"{peak:.3g}" for peak in peaks) + " |")
    return "\n".join(lines)


def draw(results: Results, folder: Path) -> None:
    attention_runs, head_runs = results["QK-norm"], results["softcap and z-loss"]
    top = max(rate for _, rate, _ in head_runs)

    figure, (left, right) = panels("largest attention score", "loss at the end")
    for number, (name, rate) in enumerate(itertools.product(("with QK-norm", "without"), (1.0, 16.0, 64.0))):
        style = {"color": f"C{number % 3}", "linestyle": "--" if name == "without" else "-"}
        lines(left, attention_runs[name, rate, False], "score", f"{name}, rate x {rate:g}", **style)
    left.set(yscale="log", xlabel="step", ylim=(2, 3e6))  # room for the legend
    by_rate(right, attention_runs)
    save(figure, folder / "stability_attention.png")

    figure, (left, right) = panels(f"largest |logit| before the cap, rate x {top:g}", f"log Z, rate x {top:g}")
    for number, (name, _, _) in enumerate(key for key in head_runs if key[1] == top):
        lines(left, head_runs[name, top, False], "logit", name, color=f"C{number}")
        lines(right, head_runs[name, top, False], "log_z", name, color=f"C{number}")
    left.axhline(15, color="grey", linestyle=":", linewidth=1, label="the most that the cap lets through")
    left.set(xlabel="step")
    right.set(xlabel="step", ylabel="root mean square")
    save(figure, folder / "stability_logits.png")

    figure, (left, right) = panels("warm-up: loss at the end", "preset: loss at the end")
    by_rate(left, results["warm-up"])
    by_rate(right, results["preset"])
    save(figure, folder / "stability_rates.png")

    figure, axes = panels("Muon and AdamW, rate x 1", "SGD, rate x 1", "SGD, rate x 5")
    for panel, guard, rate in zip(axes, ("Muon and AdamW", "SGD", "SGD"), (1.0, 1.0, 5.0), strict=True):
        for number, (name, spoiled) in enumerate(itertools.product(("none", "to 1"), (False, True))):
            label = ("no clipping" if name == "none" else "clipped to 1") + (", spoiled batches" if spoiled else "")
            style = {"color": f"C{number // 2}", "linestyle": "--" if spoiled else "-"}
            seeds = results[f"clipping, {guard}"][name, rate, spoiled]
            label += " (diverged)" if diverged(seeds) else ""
            lines(panel, seeds, "held_out", label, **style)
        panel.set(xlabel="step", ylabel="held-out nats a byte", ylim=(2.0, 3.6))
    save(figure, folder / "stability_clipping.png")


def diverged(seeds: list[Curves]) -> bool:
    """Whether any of them ended no better than it began, or in NaN."""
    return not all(curves.held_out[-1] < curves.held_out[0] for curves in seeds)


def panels(*titles: str) -> tuple[Figure, list[Axes]]:
    figure = Figure((4.5 * len(titles), 3.8), layout="constrained")
    axes = list(figure.subplots(1, len(titles)))
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title, fontsize=10)
    return figure, axes


def lines(panel: Axes, seeds: list[Curves], key: str, label: str, **style: Any) -> None:
    """A line for each seed."""
    for number, curves in enumerate(seeds):
        values = getattr(curves, key)
        steps = [PROBE_EVERY * place for place in range(len(values))]
        panel.plot(steps, values, linewidth=0.9, label=label if number == 0 else None, **style)


def by_rate(panel: Axes, runs: dict[tuple[str, float, bool], list[Curves]]) -> None:
    """The final held-out loss against the rate, a line through the means for each name, a dot for each seed."""
    for number, name in enumerate(dict.fromkeys(name for name, _, _ in runs)):
        rates = [rate for other, rate, _ in runs if other == name]
        finals = [[curves.held_out[-1] for curves in runs[name, rate, False]] for rate in rates]
        panel.plot(rates, [statistics.mean(final) for final in finals], color=f"C{number}", label=name)
        for rate, final in zip(rates, finals, strict=True):
            panel.plot([rate] * len(final), final, ".", color=f"C{number}")
    panel.set(xscale="log", xlabel="factor on all rates", ylabel="held-out nats a byte")
    panel.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    panel.minorticks_off()


def save(figure: Figure, path: Path) -> None:
    for panel in figure.axes:
        panel.legend(fontsize=7, framealpha=0.6)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()

    start = time.perf_counter()
    rows = PROBE_ROWS + options.steps * ROWS
    text = read_bytes(options.data, rows * (SEQUENCE_LEN + 1))
    data = torch.from_numpy(text.astype(np.int64)).view(rows, SEQUENCE_LEN + 1)
    results = run_all(data, options.seeds, options.steps, options.processes)
    print(tables(results))
    draw(results, options.out)
    count = len(list(cases())) * len(options.seeds)
    print(f"\n{count} runs of {options.steps} steps, seeds {options.seeds}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
