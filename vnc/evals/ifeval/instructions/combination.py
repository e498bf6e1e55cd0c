"""combination: the prompt repeated first; two responses."""

from __future__ import annotations

SEPARATOR = "******"


def repeat_prompt(response: str, *, prompt_to_repeat: str) -> bool:
    """The response begins with the request, word for word but for capitals."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def two_responses(response: str) -> bool:
    """Two parts that differ, with six asterisks between them; more of these may stand before and after both."""
    parts = [part.strip() for part in response.split(SEPARATOR)]
    said = [part for part in parts if part]
    return "" not in parts[1:-1] and len(said) == 2 and said[0] != said[1]
