"""The common look of all figures: colours, fonts, axes of compute, the line under a figure that says what was counted,
and how a figure is saved.

Colours are those of Okabe and Ito, which readers with any colour vision can tell apart; what is ordered (budgets) runs
through matplotlib's viridis, whose lightness rises evenly. Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from scaling.fit_report import TITLES
from scaling.study import Study
from vnc.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#6B6B6B", "#C8C8C8"
METHOD_COLOURS = {"quadratic": BLUE, "spline": GREEN, "huber": VERMILION, "variable_projection": PURPLE}
METHOD_NAMES = {method: title.replace("variable", "var.") for method, title in TITLES.items()}
CONVENTION_NAMES = {
    "all": "all parameters",
    "without_embeddings": "parameters without embeddings",
    "matrices_and_head": "parameters of matrices and head",
}
RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#EAEAEA",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.minor.size": 2,
    "ytick.minor.size": 2,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "vnc",  # the same figure is the same file
}
DPI = 200
NOTE_LETTERS_PER_INCH = 17

LIGHTEST = 0.74  # of viridis: what is lighter is hard to read on white
Show = Callable[[float], str]

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws a figure in the common look."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return drawn


def new_figure(panels: int = 1, width: float | None = None, height: float = 4.6, **kwargs: Any) -> tuple[Figure, Any]:
    """(figure, its axes side by side: one, or an array of them). Sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width or (7.4 if panels == 1 else 5.3 * panels), height), layout="constrained")
    return figure, figure.subplots(1, panels, **kwargs)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes NAME.png and NAME.svg, each beside its place and then renamed; returns their paths. Raises UserError."""
    import matplotlib

    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            aside = path.with_name(f".{os.getpid()}.{path.name}")
            with matplotlib.rc_context(RC):
                figure.savefig(aside, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
            aside.replace(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror}); choose another place") from error
    return paths


def footnote(figure: Figure, text: str) -> None:
    """Small and grey under the panels, in as many lines as it takes."""
    wrapped = textwrap.fill(text, int(NOTE_LETTERS_PER_INCH * figure.get_size_inches()[0]))
    figure.supxlabel(wrapped, fontsize=7.8, color=GREY, x=0.01, ha="left")


def counted(study: Study, extra: str = "", unit: str | None = None) -> str:
    """What a reader must know of any figure of the study: convention, unit of the loss (the study's when None), runs,
    and those left out."""
    left_out = f"{len(study.excluded)} left out" if study.excluded else "none left out"
    facts = [f"N: {convention_name(study.convention)}", f"loss: {unit or study.loss_unit}"]
    facts += [f"{runs(len(study.points))}, {left_out}", *([extra] if extra else [])]
    return "  ·  ".join(facts)


def runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"


def convention_name(convention: str) -> str:
    return CONVENTION_NAMES.get(convention, convention)


def budget_colours(number: int) -> list[Any]:
    """One colour for each budget, small to large: dark violet to green, short of the yellow that white swallows."""
    from matplotlib import colormaps

    spread = [0.0] if number == 1 else [LIGHTEST * i / (number - 1) for i in range(number)]
    return [colormaps["viridis"](place) for place in spread]


def log_scale(values: Sequence[float]) -> Any:
    """The same colours for values of any number, by their logarithm."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    low, high = pad_log(values, 0.02)
    return ScalarMappable(LogNorm(low, low * (high / low) ** (1 / LIGHTEST)), colormaps["viridis"])


def scale_bar(figure: Figure, axes: Any, scale: Any, values: Sequence[float], label: str, show: Show) -> None:
    """The key to `log_scale`, right of the panels, as far as there are values."""
    bar = figure.colorbar(scale, ax=axes, pad=0.01, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.set_ylim(*pad_log(values, 0.02))
    log_axis(bar.ax.yaxis, show)
    bar.ax.grid(False)
    bar.set_label(label)


def quantity(value: float) -> str:
    """1_530_000 -> "1.53M"; K, M, B and T as the literature writes parameters and tokens."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def scientific(value: float) -> str:
    """3e18 -> "3×10¹⁸"."""
    mantissa, exponent = f"{value:.1e}".split("e")
    mantissa = mantissa.removesuffix(".0")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}×{power}"


def log_axis(axis: Any, show: Show) -> None:
    """Ticks of a logarithmic axis, as many as make it readable: 2M, 5M, 10M with `quantity`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    subs: Sequence[int] = (
        range(1, 10) if decades < 0.5 else (1, 2, 3, 5, 7) if decades < 1.1 else (1, 2, 5) if decades < 2
        else (1, 3) if decades < 3.5 else (1,)
    )  # fmt: skip
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=50))
    axis.set_minor_formatter(NullFormatter())


def flops_axis(axes: Axes, label: str = "training compute, FLOPs") -> None:
    """The logarithmic x axis of compute."""
    log_axis(axes.xaxis, scientific)
    low, high = axes.get_xlim()
    if math.log10(high / low) < 1.3:  # the numbers are wide: fewer of them
        from matplotlib.ticker import LogLocator

        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5), numticks=12))
    axes.set_xlabel(label)


def pad_log(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Limits of a logarithmic axis that leave `share` of the spread (at least a twentieth of a decade) on each side."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(share * (high - low), 0.05)
    return 10 ** (low - margin), 10 ** (high + margin)
