"""IFEval's four accuracies, and what they are made of.

Strict: the response as it stands follows the instruction. Loose: it does so as it stands, or without its first line,
its last line or both, each with or without its asterisks; so a line of introduction and Markdown are forgiven
(arXiv 2311.07911, section 2.2). Of each there is an accuracy over instructions, and one over prompts, all of whose
instructions must be followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vnc.evals.ifeval.language import check_languages
from vnc.evals.ifeval.prompts import Prompt


@dataclass(frozen=True)
class Judgement:
    """Was one instruction followed?"""

    strict: bool
    loose: bool


@dataclass(frozen=True)
class PromptOutcome:
    """What became of one prompt."""

    prompt: Prompt
    response: str
    judgements: tuple[Judgement, ...]
    """One an instruction, in the prompt's order."""

    @property
    def strict(self) -> bool:
        return all(judgement.strict for judgement in self.judgements)

    @property
    def loose(self) -> bool:
        return all(judgement.loose for judgement in self.judgements)


@dataclass(frozen=True)
class TypeScore:
    """One type of instruction, or one family of types."""

    instructions: int
    strict: float
    """Accuracy, 0 to 1; so is loose."""
    loose: float


@dataclass(frozen=True)
class IFEvalResult:
    outcomes: tuple[PromptOutcome, ...]
    """In the order of the prompts."""

    @property
    def prompt_strict(self) -> float:
        return fmean(outcome.strict for outcome in self.outcomes)

    @property
    def prompt_loose(self) -> float:
        return fmean(outcome.loose for outcome in self.outcomes)

    @property
    def instruction_strict(self) -> float:
        return _type_score(self._judgements()).strict

    @property
    def instruction_loose(self) -> float:
        return _type_score(self._judgements()).loose

    def by_type(self) -> dict[str, TypeScore]:
        """Every type of instruction that was asked for, by name."""
        return self._grouped(lambda name: name)

    def by_family(self) -> dict[str, TypeScore]:
        """The same by the part of the name before the colon."""
        return self._grouped(lambda name: name.split(":")[0])

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the four accuracies, the types, and every prompt with its response and what was followed."""
        return {
            "prompts": len(self.outcomes),
            "instructions": len(self._judgements()),
            **{name: getattr(self, name) for name in ACCURACIES},
            "by_family": {name: vars(score) for name, score in self.by_family().items()},
            "by_type": {name: vars(score) for name, score in self.by_type().items()},
            "outcomes": [
                {
                    "key": outcome.prompt.key,
                    "response": outcome.response,
                    "strict": outcome.strict,
                    "loose": outcome.loose,
                    "instructions": [
                        {"id": instruction.id, "strict": judgement.strict, "loose": judgement.loose}
                        for instruction, judgement in zip(outcome.prompt.instructions, outcome.judgements, strict=True)
                    ],
                }
                for outcome in self.outcomes
            ],
        }

    def _judgements(self) -> list[Judgement]:
        return [judgement for outcome in self.outcomes for judgement in outcome.judgements]

    def _grouped(self, group: Callable[[str], str]) -> dict[str, TypeScore]:
        groups: dict[str, list[Judgement]] = {}
        for outcome in self.outcomes:
            for instruction, judgement in zip(outcome.prompt.instructions, outcome.judgements, strict=True):
                groups.setdefault(group(instruction.id), []).append(judgement)
        return {name: _type_score(groups[name]) for name in sorted(groups)}


ACCURACIES = ("prompt_strict", "instruction_strict", "prompt_loose", "instruction_loose")


def score(prompts: Sequence[Prompt], responses: Sequence[str]) -> IFEvalResult:
    """The outcome of every prompt, one or more. UserError where a language that must be told cannot be."""
    check_prompts(prompts)
    pairs = zip(prompts, responses, strict=True)
    return IFEvalResult(tuple(PromptOutcome(prompt, text, judge(prompt, text)) for prompt, text in pairs))


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """UserError, before any response is generated, if langdetect is needed and missing or lacks a language."""
    codes = {instruction.language for prompt in prompts for instruction in prompt.instructions}
    check_languages(sorted(code for code in codes if code is not None))


def judge(prompt: Prompt, response: str) -> tuple[Judgement, ...]:
    """One judgement an instruction, in the prompt's order."""
    others = [text for text in loose_variants(response) if text != response]
    judgements = []
    for instruction in prompt.instructions:
        strict = instruction.is_followed(response)
        judgements.append(Judgement(strict, strict or any(map(instruction.is_followed, others))))
    return tuple(judgements)


def loose_variants(response: str) -> tuple[str, ...]:
    """The eight texts of which one must follow an instruction, the response itself first; equal ones are given once.

    Where lines were removed, the spaces around the rest are too.
    """
    lines = response.split("\n")
    shortened = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    return tuple(dict.fromkeys(variant for text in (response, *shortened) for variant in (text, text.replace("*", ""))))


def _type_score(judgements: Sequence[Judgement]) -> TypeScore:
    return TypeScore(
        len(judgements),
        fmean(judgement.strict for judgement in judgements),
        fmean(judgement.loose for judgement in judgements),
    )
