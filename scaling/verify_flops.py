"""`vnc scaling verify-flops`: is the plan's formula what the model does, and is 6ND? A table, a figure, and an exit
code for scripts."""

from __future__ import annotations

import json as json_module
import re
import sys
from pathlib import Path

from scaling.flop_check import FlopCheck, check_model
from scaling.plots.flops_by_depth import flops_by_depth
from scaling.plots.style import save
from scaling.study import CONVENTIONS
from vnc.depth import Preset, model_config
from vnc.errors import UserError

TOLERANCE = 0.01  # of formula against counter
PRESETS: tuple[Preset, ...] = ("modern", "gpt2")


def verify_flops(
    depths: str = "2,4,...,12",
    preset: Preset | None = None,
    sequence_len: int | None = None,
    vocab_size: int | None = None,
    window_pattern: str | None = None,
    out: str | None = None,
    json: bool = False,
) -> None:
    """Compare the FLOPs that plans reckon with, those that torch counts on the real model, and 6ND.

    Ends with exit code 1 if formula and count differ by more than 1% anywhere.

    Args:
        depths: Depths to check, such as 4,8,12; an ellipsis goes on in the same steps, as in 2,4,...,12.
        preset: modern or gpt2; both when null.
        sequence_len: Context in tokens; the preset's own when null.
        vocab_size: Number of tokens; the preset's own when null.
        window_pattern: Attention spans by layer, S and L; the preset's own when null.
        out: Folder for the figure of the ratios, as PNG and SVG.
        json: Print JSON instead of a table.
    """
    checks = [
        check_model(
            name,
            depth,
            model_config(
                depth, preset=name, sequence_len=sequence_len, vocab_size=vocab_size, window_pattern=window_pattern
            ),
        )
        for name in ([preset] if preset else PRESETS)
        for depth in parse_depths(depths)
    ]
    print(json_module.dumps([check.as_dict() for check in checks], indent=1) if json else as_table(checks))
    if out is not None:
        saved = save(flops_by_depth(checks), Path(out), "flops_by_depth")
        print(f"figure: {', '.join(map(str, saved))}", file=sys.stderr if json else sys.stdout)
    if any(abs(check.counted / check.formula - 1) > TOLERANCE for check in checks):
        print(f"formula and count differ by more than {TOLERANCE:.0%}", file=sys.stderr)
        sys.exit(1)


def parse_depths(text: str) -> list[int]:
    """ "2,4,...,12" -> [2, 4, 6, 8, 10, 12]; "3,5" -> [3, 5]. Raises UserError."""
    parts = [part.strip() for part in text.replace("…", "...").split(",")]
    dots = [position for position, part in enumerate(parts) if part == "..."]
    wrong = [part for part in parts if part != "..." and not re.fullmatch(r"[1-9]\d*", part)]
    if wrong or len(dots) > 1 or (dots and dots != [len(parts) - 2]) or (dots and len(parts) < 3):
        raise UserError(f"depths={text}: write depths as 4,8,12, or 2,4,...,12 to go on in the same steps")
    depths = [int(part) for part in parts if part != "..."]
    if dots:
        last = depths.pop()
        step = depths[-1] - depths[-2] if len(depths) > 1 else 1
        if step < 1 or last < depths[-1]:
            raise UserError(f"depths={text}: the depths before the dots must rise towards the one behind them")
        depths += range(depths[-1] + step, last + 1, step)
    return depths


def as_table(checks: list[FlopCheck]) -> str:
    """A line for each model, and how to read it."""
    head = (
        f"{'preset':<8}{'depth':>5}{'width':>7}{'formula':>15}{'counted':>15}{'ratio':>9}{'bwd / fwd':>12}"
        f"{'CPU route':>11}{'6N all':>9}{'6N w/o emb':>12}{'6N mat+head':>13}"
    )
    lines = ["FLOPs for each token, forward and backward; the ratios are to the formula", "", head]
    for check in checks:
        six = [check.six_n[convention] / check.formula for convention in CONVENTIONS]
        lines.append(
            f"{check.preset:<8}{check.depth:>5}{check.n_embd:>7}{check.formula:>15,}{check.counted:>15,.0f}"
            f"{check.counted / check.formula:>9.5f}{check.backward / check.forward:>12.4f}"
            f"{check.cpu_route / check.formula:>11.4f}{six[0]:>9.3f}{six[1]:>12.3f}{six[2]:>13.3f}"
        )
    return "\n".join([*lines, "", *explanations(checks)])


def explanations(checks: list[FlopCheck]) -> list[str]:
    """Where the columns differ, and why; a paragraph each."""
    lines = [
        "counted: torch's FlopCounterMode over a step of the model (meta device), the loss in its chunks and all gates "
        "included; a query attends to exactly as many keys as its window has, which is what the formula reckons with.",
        "CPU route: the same with the attention that runs on CPUs, blocks of 128 queries against the keys that some of "
        "them see: about half the square over the whole context, somewhat more than the window where it is short.",
        "6N: what C = 6ND reckons with, for three ways of counting N (all; without token, position and value "
        "embeddings; matrices and head). It leaves out the products of attention that have no weights, and with all "
        "parameters it counts tables that are only looked up.",
    ]  # fmt: skip
    padded = [check for check in checks if check.unused_head]
    if padded:
        most = max(check.unused_head / check.formula for check in padded)
        lines.append(
            f"The {'/'.join(sorted({check.preset for check in padded}))} formula counts the rows that pad the "
            f"vocabulary to a multiple of 64, the step leaves them out: at most {most:.3%} here."
        )
    worst = max(checks, key=lambda check: abs(check.unexplained) / check.formula)
    lines.append(
        "Nothing else differs: formula = counted + padded rows, to the FLOP."
        if abs(worst.unexplained) < 0.5
        else f"Unexplained: up to {abs(worst.unexplained) / worst.formula:.4%} ({worst.preset}, depth {worst.depth})."
    )
    return lines
