"""change_case: capitals and small letters."""

from __future__ import annotations

from vnc.evals.ifeval.language import is_in
from vnc.evals.ifeval.text import Relation, compare, count_capital_words


def capital_word_frequency(response: str, *, capital_frequency: int, capital_relation: Relation) -> bool:
    """Words in capitals, counted as `count_capital_words` does."""
    return compare(count_capital_words(response), capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    """English, without a small letter. The detector hardly sees capitals, so about the language it errs either way."""
    return response.isupper() and is_in(response, "en")


def english_lowercase(response: str) -> bool:
    """English, without a capital letter."""
    return response.islower() and is_in(response, "en")
