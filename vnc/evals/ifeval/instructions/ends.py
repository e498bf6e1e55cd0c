"""startend and punctuation: how a response begins and ends, and a mark that it must not have."""

from __future__ import annotations


def end_checker(response: str, *, end_phrase: str) -> bool:
    """The phrase comes last, capitals or not; spaces and double quotes may follow it."""
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(response: str) -> bool:
    """A straight double quote opens and another one closes the response."""
    stripped = response.strip()
    return len(stripped) > 1 and stripped[0] == stripped[-1] == '"'


def no_comma(response: str) -> bool:
    """No comma; marks of other scripts, such as the Arabic comma, are not meant."""
    return "," not in response
