"""detectable_content: placeholders and postscripts."""

from __future__ import annotations

import re

MARKERS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
"""The spellings that count as the markers that IFEval uses, in small letters."""


def number_placeholders(response: str, *, num_placeholders: int) -> bool:
    """At least so many pieces in square brackets, each on one line: [address]."""
    return sum(map(_count_brackets, response.split("\n"))) >= num_placeholders


def _count_brackets(line: str) -> int:
    """Pairs of [ and the next ]. By hand: a regular expression takes quadratic time on a run of opening brackets, which
    a poor model can write."""
    count, place = 0, 0
    while (opening := line.find("[", place)) >= 0 and (closing := line.find("]", opening)) >= 0:
        count, place = count + 1, closing + 1
    return count


def postscript(response: str, *, postscript_marker: str) -> bool:
    """The marker stands anywhere, in capitals or not; "P.S." is found within "P.P.S." too, as in the official checker.

    Other markers than IFEval's two are taken letter by letter, not as patterns.
    """
    marker = postscript_marker.strip()
    return re.search(MARKERS.get(marker, re.escape(marker.lower())), response.lower()) is not None
