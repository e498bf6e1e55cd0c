"""detectable_format: lists, highlights, sections, titles, JSON, and answers out of a given few."""

from __future__ import annotations

import json
import re

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
FENCES = ("```json", "```Json", "```JSON", "```")


def number_bullet_lists(response: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that begin with a dash, or with one asterisk and then something else.

    So a rule of dashes is a bullet, as in the official checker. A line with an asterisk alone is none; there it is one
    together with the line after it.
    """
    lines = [line.lstrip() for line in response.split("\n")]
    return sum(re.match(r"-|\*[^*]", line) is not None for line in lines) == num_bullets


def number_highlighted_sections(response: str, *, num_highlights: int) -> bool:
    """At least so many pieces *between asterisks* or **between two**, each on one line and not blank.

    What stands ***between three*** counts as both, and the asterisk of a bullet pairs with the next one on its line:
    both as in the official checker.
    """
    pieces = re.findall(r"\*([^*\n]*)\*", response) + re.findall(r"\*\*([^*\n]*)\*\*", response)
    return sum(bool(piece.strip()) for piece in pieces) >= num_highlights


def multiple_sections(response: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many marks such as "Section 1", with at most one space before the number; capitals matter."""
    return len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", response)) >= num_sections


def title(response: str) -> bool:
    """Something on one line <<between double angular brackets>>."""
    return any(_between_brackets(line) for line in response.split("\n"))


def _between_brackets(line: str) -> bool:
    first, last = line.find("<<"), line.rfind(">>")
    return first >= 0 and last > first + 2 and bool(line[first:last].lstrip("<").rstrip(">").strip())


def json_format(response: str) -> bool:
    """The whole response is one JSON value, which a Markdown fence may enclose."""
    inside = response.strip()
    for fence in FENCES:
        inside = inside.removeprefix(fence)
    try:
        json.loads(inside.removesuffix("```").strip())
    except (ValueError, RecursionError):  # brackets nested without end are no JSON that anyone could read
        return False
    return True


def constrained_response(response: str) -> bool:
    """One of the three answers stands in it, word for word; other words may stand around it."""
    return any(option in response for option in OPTIONS)
