"""IFEval's 25 types of instruction: the judge of each, and the arguments that a prompt gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vnc.evals.ifeval.instructions import case, combination, content, ends, form, keywords, length
from vnc.evals.ifeval.language import response_language
from vnc.evals.ifeval.text import RELATIONS

Argument = str | int | tuple[str, ...]
Parse = Callable[[Any], Argument]
"""From a JSON value to an argument; ValueError says what it must be."""


@dataclass(frozen=True)
class Kind:
    """A type of instruction."""

    follows: Callable[..., bool]
    """(response, **arguments) -> was it followed?"""
    arguments: Mapping[str, Parse] = field(default_factory=dict)
    languages: Callable[[Mapping[str, Argument]], str | None] = lambda _: None
    """The code of the language that judging must be able to tell, if any."""


def whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("must be a whole number, 0 or more")
    return value


def positive(value: Any) -> int:
    if whole(value) < 1:
        raise ValueError("must be a whole number, 1 or more")
    return int(value)


def words(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a string that is not blank")
    return value


def several(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of strings")
    return tuple(map(words, value))


def character(value: Any) -> str:
    if len(words(value)) != 1:
        raise ValueError("must be a single letter")
    return str(value)


def relation(value: Any) -> str:
    if value not in RELATIONS:
        raise ValueError(f"must be one of {', '.join(map(repr, RELATIONS))}")
    return str(value)


KINDS: dict[str, Kind] = {
    "change_case:capital_word_frequency": Kind(
        case.capital_word_frequency, {"capital_frequency": whole, "capital_relation": relation}
    ),
    "change_case:english_capital": Kind(case.english_capital, languages=lambda _: "en"),
    "change_case:english_lowercase": Kind(case.english_lowercase, languages=lambda _: "en"),
    "combination:repeat_prompt": Kind(combination.repeat_prompt, {"prompt_to_repeat": words}),
    "combination:two_responses": Kind(combination.two_responses),
    "detectable_content:number_placeholders": Kind(content.number_placeholders, {"num_placeholders": whole}),
    "detectable_content:postscript": Kind(content.postscript, {"postscript_marker": words}),
    "detectable_format:constrained_response": Kind(form.constrained_response),
    "detectable_format:json_format": Kind(form.json_format),
    "detectable_format:multiple_sections": Kind(
        form.multiple_sections, {"section_spliter": words, "num_sections": whole}
    ),
    "detectable_format:number_bullet_lists": Kind(form.number_bullet_lists, {"num_bullets": whole}),
    "detectable_format:number_highlighted_sections": Kind(form.number_highlighted_sections, {"num_highlights": whole}),
    "detectable_format:title": Kind(form.title),
    "keywords:existence": Kind(keywords.existence, {"keywords": several}),
    "keywords:forbidden_words": Kind(keywords.forbidden_words, {"forbidden_words": several}),
    "keywords:frequency": Kind(keywords.frequency, {"keyword": words, "frequency": whole, "relation": relation}),
    "keywords:letter_frequency": Kind(
        keywords.letter_frequency, {"letter": character, "let_frequency": whole, "let_relation": relation}
    ),
    "language:response_language": Kind(
        response_language, {"language": words}, languages=lambda arguments: str(arguments["language"])
    ),
    "length_constraints:nth_paragraph_first_word": Kind(
        length.nth_paragraph_first_word,
        {"num_paragraphs": positive, "nth_paragraph": positive, "first_word": words},
    ),
    "length_constraints:number_paragraphs": Kind(length.number_paragraphs, {"num_paragraphs": whole}),
    "length_constraints:number_sentences": Kind(
        length.number_sentences, {"num_sentences": whole, "relation": relation}
    ),
    "length_constraints:number_words": Kind(length.number_words, {"num_words": whole, "relation": relation}),
    "punctuation:no_comma": Kind(ends.no_comma),
    "startend:end_checker": Kind(ends.end_checker, {"end_phrase": words}),
    "startend:quotation": Kind(ends.quotation),
}
