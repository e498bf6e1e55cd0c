"""Rotary positions in figures, and what small models make of positions past the context they were trained on.

    python benchmarks/rope.py --out docs/figures [--seeds 1 2 3] [--steps 300]

Trains a model of two layers on stories of TinyWorld, as bytes, in rows of 64, and reads rows of 512 with it: once as
`vnc` does, where no query sees more than the 64 newest keys, and once with every key in sight. Prints the losses as a
Markdown table and draws `rope_base.png` and `rope_context.png` in the folder `--out`. docs/rope.md explains them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure

from vnc.depth import make_plan
from vnc.gpt import GPT
from vnc.optimizer import MuonAdamW
from vnc.rows import inputs_and_targets
from vnc.tinyworld.stories import story

CONTEXT, READ, ROWS = 64, 512, 16
HELD_OUT_ROWS = 64
STORIES = 1_200
SPANS = ((0, 32), (32, 64), (64, 128), (128, 256), (256, 512))
BASES = (1_000.0, 10_000.0, 100_000.0, 1_000_000.0)
HEAD_DIM = 128


def frequencies(base: float) -> torch.Tensor:
    """(HEAD_DIM / 2,) radians a position, fp64, as in `GPT.rotary`."""
    return base ** -(torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)


def draw_bases(folder: Path) -> None:
    figure = Figure((9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    distance = torch.arange(2_049, dtype=torch.float64)
    for base in BASES:
        label = f"base {base:,.0f}"
        left.plot(2 * torch.pi / frequencies(base), label=label)
        right.plot(distance, torch.outer(distance, frequencies(base)).cos().mean(1), label=label, linewidth=1)
    left.axhline(2_048, color="grey", linestyle="--", linewidth=1)
    left.text(0.5, 2_400, "context 2,048", color="grey", fontsize=8)
    left.set(yscale="log", xlabel="pair of channels", ylabel="positions for one turn", title="Wavelengths, head of 128")
    right.set(xlabel="distance", ylabel="score / score at distance 0", title="A query equal to its key")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.savefig(folder / "rope_base.png", dpi=130)


def rows_of(text: torch.Tensor, count: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """(count, length + 1) bytes from random places of the text."""
    starts = torch.randint(0, len(text) - length, (count, 1), generator=generator)
    return text[starts + torch.arange(length + 1)]


def trained(text: torch.Tensor, seed: int, steps: int) -> GPT:
    plan = make_plan(
        2, vocab_size=256, aspect_ratio=32, head_dim=32, sequence_len=CONTEXT, window_pattern="L",
        total_batch_tokens=ROWS * CONTEXT, num_steps=steps, warmup_steps=10, lr_scale=1.5, matrix_lr=0.04,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    gpt = GPT(plan.config)
    gpt.init_weights(generator)
    optimizer = MuonAdamW(gpt, plan)
    for step in range(steps):
        inputs, targets = inputs_and_targets(rows_of(text, ROWS, CONTEXT, generator))
        loss = gpt.summed_loss(inputs, targets) / targets.numel()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.set_schedule(plan, step)
        optimizer.step()
        optimizer.zero_grad()
    return gpt


def losses_by_position(gpt: GPT, rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """(READ,) mean nats a byte at each position: with the window of the training's context, then with none."""
    inputs, targets = inputs_and_targets(rows)
    yield gpt.token_losses(inputs, targets).mean(0)
    for block in gpt.blocks:
        block.attn.window = READ  # type: ignore[union-attr]
    yield gpt.token_losses(inputs, targets).mean(0)


def draw_context(curves: dict[str, torch.Tensor], folder: Path) -> None:
    figure = Figure((6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, losses in curves.items():
        smooth = losses.mean(0).view(-1, 16).mean(1)
        axes.plot(torch.arange(len(smooth)) * 16 + 8, smooth, label=name)
    axes.axvline(CONTEXT, color="grey", linestyle="--", linewidth=1)
    axes.text(CONTEXT + 4, axes.get_ylim()[1] * 0.97, "end of the trained context", color="grey", fontsize=8)
    axes.set(xlabel="position", ylabel="nats a byte")
    axes.legend(fontsize=8, loc="center right")
    figure.savefig(folder / "rope_context.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    draw_bases(options.out)
    text = torch.tensor(list("\n".join(story(index, 0).text for index in range(STORIES)).encode()))
    held_out = rows_of(text[-len(text) // 10 :], HELD_OUT_ROWS, READ, torch.Generator().manual_seed(0))
    runs = [
        list(losses_by_position(trained(text[: -len(text) // 10], seed, options.steps), held_out))
        for seed in options.seeds
    ]
    curves = {
        "the newest 64 keys (vnc)": torch.stack([windowed for windowed, _ in runs]),
        "every key": torch.stack([free for _, free in runs]),
    }
    print("| positions | " + " | ".join(curves) + " |\n|---|---|---|")
    for start, stop in SPANS:
        means = [losses[:, start:stop].mean(1) for losses in curves.values()]
        cells = [f"{each.mean():.3f} ({each.min():.3f} to {each.max():.3f})" for each in means]
        print(f"| {start} to {stop - 1} | " + " | ".join(cells) + " |")
    draw_context(curves, options.out)


if __name__ == "__main__":
    main()
