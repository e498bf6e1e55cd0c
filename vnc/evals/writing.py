"""Tasks in which a base model writes: questions with an answer to be found in what it wrote, and programs to be run.

The rules for questions are llm-foundry's (in_context_learning_evaluation.py and metrics/nlp.py of version 0.9), those
for solved examples and rows prompts.py's:

- A solved example is the question, the delimiter, the reasoning if there is one, `cot_delimiter` and the answer; one
  newline stands between examples. White space at the end of the whole prompt is dropped.
- The model writes, greedily, as many tokens as the longest answer (and reasoning) in the data has, 10 more where
  there is a cot_delimiter.
- What it wrote is cut at the first of the stopping criteria; what follows the last cot_delimiter is the answer. It is
  right when it begins with one of the accepted answers, both normalised where the task says so.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

from vnc.checkpoint import LoadedModel
from vnc.engine import Engine, newest_part
from vnc.evals.bundle import LeftOut, Task
from vnc.evals.chatcore.answers import places
from vnc.evals.examples import Code, Generation
from vnc.evals.humaneval import NEEDS_PERMISSION, STOPS, Problem, grade
from vnc.evals.prompts import WHOLE, Share, check_rows, fewshot_places, scored_rows
from vnc.evals.results import TaskResult, Written
from vnc.evals.sandbox import protections
from vnc.tokenizer import Tokenizer

ANSWER_BUFFER = 10  # tokens more than the longest answer, for a model that words its reasoning otherwise
CODE_TOKENS = 512

_articles = re.compile(r"\b(a|an|the)\b")
_punctuation = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))


def question_texts(task: Task, max_examples: int | None = None, share: Share = WHOLE) -> list[str]:
    """The prompt of each row of a share that is asked, in order, without BOS."""
    check_rows(task, max_examples)
    examples = [task.examples[row] for row in scored_rows(len(task.examples), max_examples)]
    texts = []
    for place in share.places(len(examples)):
        shots = [examples[shot] for shot in fewshot_places(len(examples), place, task.num_fewshot)]
        solved = [_question(task, shot) + _solution(task, shot) for shot in shots]
        texts.append("\n".join([*solved, _question(task, examples[place])]).rstrip())
    return texts


def _question(task: Task, example: object) -> str:
    if isinstance(example, Code):
        return example.prompt
    assert isinstance(example, Generation)
    return f"{task.writing.question_prelimiter}{example.context}{task.delimiter}"


def _solution(task: Task, example: object, answer: str | None = None) -> str:
    if isinstance(example, Code):
        return example.canonical_solution
    assert isinstance(example, Generation)
    answer = example.answer if answer is None else answer
    thought = example.chain_of_thought
    return f"{thought}{task.writing.cot_delimiter}{answer}" if thought else answer


def answer_tokens(task: Task, tokenizer: Tokenizer) -> int:
    """How many tokens the model may write."""
    if task.kind == "code_evaluation":
        return CODE_TOKENS
    texts = [
        _solution(task, example, answer)
        for example in task.examples
        if isinstance(example, Generation)
        for answer in example.answers
    ]
    longest = max(map(len, tokenizer.encode_batch(texts)))
    return longest + (ANSWER_BUFFER if task.writing.cot_delimiter else 0)


def is_right(task: Task, example: Generation, written: str) -> bool:
    """Does what the model wrote begin with an accepted answer?"""
    answer = final_answer(task, written)
    if not task.writing.do_normalization:
        return answer.startswith(example.answers)
    return normalized(answer).startswith(tuple(filter(None, map(normalized, example.answers))))


def final_answer(task: Task, written: str) -> str:
    """The part of it that is compared."""
    for stop in task.writing.early_stopping_criteria:
        written = written.split(stop, 1)[0]
    delimiter = task.writing.cot_delimiter
    return written.rsplit(delimiter, 1)[-1] if delimiter else written


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and surplus white space (TriviaQA's evaluation, arXiv 1705.03551)."""
    return " ".join(_articles.sub(" ", text.lower().translate(_punctuation)).split())


def score_written(
    loaded: LoadedModel,
    task: Task,
    max_examples: int | None = None,
    allow_code_execution: bool = False,
    done: Callable[[int], None] | None = None,
    share: Share = WHOLE,
) -> TaskResult | LeftOut:
    """One generation or code task, at most `max_examples` rows of it, or a share of these; left out where code may not
    be run. The model, its mode and all random states are left as they were."""
    code = task.kind == "code_evaluation"
    if code and not allow_code_execution:
        return LeftOut(task.label, NEEDS_PERMISSION)
    if code and not (stood := protections()).isolated:
        return LeftOut(task.label, stood.in_words())
    asked = scored_rows(len(task.examples), max_examples)
    rows = [asked[place] for place in share.places(len(asked))]
    stops = STOPS if code else task.writing.early_stopping_criteria
    questions, limit = question_texts(task, max_examples, share), answer_tokens(task, loaded.tokenizer)
    texts = continuations(loaded, questions, limit, stops, done)
    if not code:
        outcomes = []
        for row, text in zip(rows, texts, strict=True):
            example = task.examples[row]
            assert isinstance(example, Generation)
            outcomes.append(Written(row, is_right(task, example, text), text, example.answer))
        return TaskResult(task.label, task.kind, task.num_fewshot, task.baseline, tuple(outcomes))
    problems = [as_problem(task.label, row, task.examples[row]) for row in rows]
    grades = grade(problems, texts, allow_code_execution=True)
    if (not_run := next((ran for ran in grades if ran.end == "not run"), None)) is not None:
        return LeftOut(task.label, not_run.stderr)
    found = tuple(
        Written(row, ran.end == "passed", text, f"a program that passes the tests of {problem.task_id}")
        for row, ran, text, problem in zip(rows, grades, texts, problems, strict=True)
    )
    return TaskResult(task.label, task.kind, task.num_fewshot, task.baseline, found)


def as_problem(label: str, row: int, example: object) -> Problem:
    """A row of a code task, with its pairs of arguments and results as HumanEval's `check`."""
    assert isinstance(example, Code)
    lines = [
        f"    assert candidate(*({arguments})) == ({result})"  # a tuple may stand without its brackets
        for arguments, result in zip(example.test_inputs, example.test_outputs, strict=True)
    ]
    test = "\n".join(["def check(candidate):", *lines])
    return Problem(f"{label}/{row}", example.prompt, example.canonical_solution, test, example.entry_point)


def continuations(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_tokens: int,
    stops: Sequence[str] = (),
    done: Callable[[int], None] | None = None,
) -> list[str]:
    """How the model goes on with each text: greedy, to the first stop string, which is left out, or BOS. A prompt that
    leaves too little of the context loses its oldest tokens, after BOS. `done` hears of rows as they end."""
    tokenizer, context = loaded.tokenizer, loaded.gpt.config.sequence_len
    max_tokens = min(max_tokens, max(1, context // 2))
    cut = [newest_part([tokenizer.bos_id, *ids], context - max_tokens)[0] for ids in tokenizer.encode_batch([*prompts])]
    order = sorted(range(len(cut)), key=lambda place: len(cut[place]))
    engine = Engine(loaded.gpt, tokenizer)
    longest = max(map(len, cut), default=0) + max_tokens
    seats = places(loaded.gpt.config, min(context, longest), engine.device.type)
    texts = [""] * len(cut)
    for event in engine.stream_queue(
        [cut[place] for place in order], max_tokens=max_tokens, places=seats, stop_texts=stops
    ):
        texts[order[event.row]] += event.text
        if event.token is None and done is not None:
            done(1)
    return [_cut_at(text, stops) for text in texts]


def _cut_at(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text
