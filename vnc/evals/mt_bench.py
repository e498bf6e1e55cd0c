"""MT-Bench (Zheng et al., arXiv 2306.05685): 80 questions of two turns each, every answer rated 1 to 10 by a judge.

Answers and ratings are written in the form that FastChat's llm_judge reads, as model_answer/MODEL.jsonl and
model_judgment/JUDGE_single.jsonl; without its time stamps, so that the same answers give the same files.

FastChat lets a model write with a temperature of its own for each category (0 to 0.7). Here `answer` decides; greedy
answers can be repeated.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vnc.evals.answer_files import checked_model_id, file_name, write_kept
from vnc.evals.answering import Answer, conversation, drawn
from vnc.evals.json_rows import read_json_lines
from vnc.evals.judge import Judge, NotJudged, Prompt
from vnc.evals.mt_bench_files import JudgePrompt, MTBench, TwoTurns

RATING, LOOSE_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]")


@dataclass(frozen=True)
class Rating:
    """What the judge made of one turn."""

    turn: int
    """1 or 2."""
    prompt_name: str
    user_prompt: str
    score: float | None
    """1 to 10; None: the judge gave no verdict."""
    judgment: str


@dataclass(frozen=True)
class Rated:
    """One question with what was answered to it and, if there was a judge, its ratings."""

    question: TwoTurns
    answers: tuple[str, str]
    ratings: tuple[Rating, ...]


@dataclass(frozen=True)
class MTBenchResult:
    model_id: str
    judge: str | None
    """None: answers were saved, nothing was judged."""
    rated: tuple[Rated, ...]

    @property
    def score(self) -> float | NotJudged:
        """Mean over all ratings of both turns, 1 to 10."""
        if self.judge is None:
            return "not judged"
        return self._mean(self._ratings()) or "no verdict"

    @property
    def judged(self) -> int:
        """Ratings that are in the mean."""
        return sum(rating.score is not None for rating in self._ratings())

    @property
    def without_verdict(self) -> int:
        """Turns that were judged in vain and are in no mean."""
        return sum(rating.score is None for rating in self._ratings())

    def by_turn(self) -> dict[int, float | None]:
        """Mean rating of each turn; None where no verdict was given. Empty when nothing was judged."""
        turns = sorted({rating.turn for rating in self._ratings()})
        return {turn: self._mean(rating for rating in self._ratings() if rating.turn == turn) for turn in turns}

    def by_category(self) -> dict[str, float | None]:
        """Mean rating of each category over both turns, in the order of the questions."""
        names = dict.fromkeys(each.question.category for each in self.rated if each.ratings)
        return {
            name: self._mean(rating for each in self.rated if each.question.category == name for rating in each.ratings)
            for name in names
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the means, and each question with its answers and ratings."""
        return {
            "mt_bench": self.score,
            "model": self.model_id,
            "judge": self.judge,
            "questions": len(self.rated),
            "judged": self.judged,
            "without_verdict": self.without_verdict,
            "by_turn": {str(turn): mean for turn, mean in self.by_turn().items()},
            "by_category": self.by_category(),
            "outcomes": [
                {
                    "question_id": each.question.question_id,
                    "category": each.question.category,
                    "answers": list(each.answers),
                    "scores": [rating.score for rating in each.ratings],
                    "judgments": [rating.judgment for rating in each.ratings],
                }
                for each in self.rated
            ],
        }

    def _ratings(self) -> list[Rating]:
        return [rating for each in self.rated for rating in each.ratings]

    @staticmethod
    def _mean(ratings: Iterable[Rating]) -> float | None:
        scores = [rating.score for rating in ratings if rating.score is not None]
        return fmean(scores) if scores else None


def evaluate_mt_bench(
    bench: MTBench,
    answer: Answer,
    model_id: str,
    out: Path,
    judge: Judge | None = None,
    max_examples: int | None = None,
    done: Callable[[int], None] | None = None,
) -> MTBenchResult:
    """Answers the questions, saves the answers under `out` and, with a judge, has them rated and saves that too.

    model_id: names the model in the files and the file itself. max_examples: at most this many questions, drawn as rows
    of other tasks are. done: hears how many judgements were just settled, of two for each question.
    """
    checked_model_id(model_id)
    questions = drawn(bench.questions, max_examples)
    answers = answer_both_turns(questions, answer)
    write_answers(out / "model_answer" / f"{model_id}.jsonl", model_id, questions, answers)
    if judge is None:
        return MTBenchResult(model_id, None, tuple(map(_unrated, questions, answers)))
    rated = rate(questions, answers, bench.prompts, judge, done)
    write_judgments(out / "model_judgment" / f"{file_name(judge.model)}_single.jsonl", model_id, judge.model, rated)
    return MTBenchResult(model_id, judge.model, rated)


def answer_both_turns(questions: Sequence[TwoTurns], answer: Answer) -> list[tuple[str, str]]:
    """All first turns in one batch, then all second turns, each after what was answered to its first."""
    first = answer([conversation(question.turns[0]) for question in questions])
    second = answer([
        conversation(question.turns[0], said, question.turns[1])
        for question, said in zip(questions, first, strict=True)
    ])  # fmt: skip
    return list(zip(first, second, strict=True))


def rate(
    questions: Sequence[TwoTurns],
    answers: Sequence[tuple[str, str]],
    prompts: Mapping[str, JudgePrompt],
    judge: Judge,
    done: Callable[[int], None] | None = None,
) -> tuple[Rated, ...]:
    """Each turn of each question rated alone (single-answer grading, section 3.1 of the paper)."""
    asked = [
        (question, said, turn, judge_prompt(question, said, turn, prompts))
        for question, said in zip(questions, answers, strict=True)
        for turn in (1, 2)
    ]
    verdicts = judge.verdicts([prompt for *_, prompt in asked], parse_rating, done)
    ratings = [
        Rating(turn, prompt_name(question, turn), prompt.user, verdict.value, verdict.judgment)
        for (question, _, turn, prompt), verdict in zip(asked, verdicts, strict=True)
    ]
    return tuple(
        Rated(question, said, (ratings[2 * place], ratings[2 * place + 1]))
        for place, (question, said) in enumerate(zip(questions, answers, strict=True))
    )


def prompt_name(question: TwoTurns, turn: int) -> str:
    """Which of the judge's prompts fits."""
    return f"single-{'math-' if question.reference else ''}v1{'-multi-turn' if turn == 2 else ''}"


def judge_prompt(question: TwoTurns, answers: tuple[str, str], turn: int, prompts: Mapping[str, JudgePrompt]) -> Prompt:
    """What the judge is asked about one turn; the second is shown with the first before it."""
    prompt = prompts[prompt_name(question, turn)]
    fields = {"question": question.turns[0], "answer": answers[0]}
    for number in (0, 1):
        fields |= {f"question_{number + 1}": question.turns[number], f"answer_{number + 1}": answers[number]}
        if question.reference:
            fields[f"ref_answer_{number + 1}"] = question.reference[number]
    return Prompt(prompt.system, prompt.template.format(**fields))


def parse_rating(judgment: str) -> float | None:
    """The first [[n]] in the text or else, as FastChat has it, the first [n]; None unless it is from 1 to 10."""
    found = RATING.search(judgment) or LOOSE_RATING.search(judgment)
    rating = float(found[1]) if found else 0.0
    return rating if 1 <= rating <= 10 else None


def write_answers(path: Path, model_id: str, questions: Sequence[TwoTurns], answers: Sequence[tuple[str, str]]) -> None:
    """A line for each question, as FastChat's gen_model_answer writes them; an answer's id is a hash of it."""
    rows = []
    for question, turns in zip(questions, answers, strict=True):
        name = hashlib.sha256(json.dumps([model_id, question.question_id, *turns]).encode()).hexdigest()[:22]
        row = {"question_id": question.question_id, "answer_id": name, "model_id": model_id}
        rows.append({**row, "choices": [{"index": 0, "turns": list(turns)}]})
    write_kept(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_judgments(path: Path, model_id: str, judge: str, rated: Sequence[Rated]) -> None:
    """A line for each rating, as FastChat's gen_judgment writes them: -1 is no verdict. The file belongs to the judge:
    ratings of other models in it stay."""
    rows = [
        {
            "question_id": each.question.question_id,
            "model": model_id,
            "judge": [judge, rating.prompt_name],
            "user_prompt": rating.user_prompt,
            "judgment": rating.judgment,
            "score": -1 if rating.score is None else rating.score,
            "turn": rating.turn,
        }
        for each in rated
        for rating in each.ratings
    ]
    others = [row.values for row in read_json_lines(path) if row.text("model") != model_id] if path.exists() else []
    write_kept(path, "".join(json.dumps(row) + "\n" for row in [*others, *rows]))


def _unrated(question: TwoTurns, answers: tuple[str, str]) -> Rated:
    return Rated(question, answers, ())
