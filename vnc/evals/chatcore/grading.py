"""Was a written answer right? Pure functions on texts."""

from __future__ import annotations

import re

_final = re.compile(r"####\s*(?:\$\s*)?([-+]?\$?\s*[\d,]*\.?\d+)")
_letters = re.compile(r"(?:(?<![A-Za-z])[A-Za-z](?![A-Za-z])[^A-Za-z0-9]*)+$")
_number = re.compile(r"(?<![\d.,])\d+(?![\d.,]*\d)")


def final_number(text: str) -> str | None:
    """The number that stands after the first "#### ", GSM8K's mark of a final answer (Cobbe et al. 2021, arXiv
    2110.14168), in plain digits; None where there is none. "$1,250.00" is 1250, "-.50" is -0.5."""
    found = _final.search(text)
    if found is None:
        return None
    number = re.sub(r"[,$\s+]", "", found[1])
    sign, digits = ("-", number[1:]) if number.startswith("-") else ("", number)
    whole, _, decimals = digits.partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    plain = f"{whole}.{decimals}" if decimals else whole
    return plain if plain == "0" else sign + plain


def last_letters(text: str) -> str | None:
    """The single letters that a text ends with, "a p p l e" or "A-P-P-L-E.", as one lower-case word; None where it does
    not end with any."""
    found = _letters.search(text)
    return None if found is None else "".join(filter(str.isalpha, found[0])).lower()


def last_number(text: str) -> str | None:
    """The last whole number in a text, without leading zeros; None where there is none."""
    numbers = _number.findall(text)
    return str(int(numbers[-1])) if numbers else None
