"""Colours of runs and results: told apart by people with any kind of colour vision, legible on white and on black."""

from __future__ import annotations

from collections.abc import Sequence

# After Okabe and Ito's set for colour-blind readers, its black left out and its yellow darkened, for both backgrounds.
COLOURS = ("#3d8fdf", "#e0762f", "#17a37a", "#c868ad", "#b8930a", "#45b3c9", "#d9515f", "#8d7fe0")
GREY = "#8a8f98"


def colours(names: Sequence[str]) -> list[str]:
    """One for each name, in order; they begin anew after eight."""
    return [COLOURS[place % len(COLOURS)] for place in range(len(names))]
