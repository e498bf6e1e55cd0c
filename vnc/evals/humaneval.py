"""HumanEval: Python functions written from their docstrings, judged by running their tests (Chen et al. 2021,
arXiv 2107.03374).

Judging means running what the model wrote. It is done only with the user's explicit permission, and in the sandbox;
where either is wanting, every problem is "not run", which is no score and not a score of 0.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vnc.errors import UserError
from vnc.evals.sandbox import Limits, Ran, protections, run_code

FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl")
NEEDS_PERMISSION = "its answers are programs that must be run to be judged; needs --allow_code_execution"
"""Why a task is left out where generated code may not be run."""
NOT_ALLOWED = "generated code was not run: allow_code_execution is false"

# Where a base model has left the function and begun something else (the paper, section 2.1).
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")

_fence = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Problem:
    task_id: str
    prompt: str
    """Imports, perhaps helpers, then the function's head and docstring."""
    canonical_solution: str
    """The rest of the function."""
    test: str
    """Defines check(candidate), which raises where the candidate is wrong."""
    entry_point: str
    """The function's name."""


def read_problems(path: Path) -> tuple[Problem, ...]:
    """The problems of a HumanEval.jsonl or HumanEval.jsonl.gz, or of the one in a folder. UserError names the line and
    key of a mistake."""
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()]
        if not found:
            raise UserError(f"{path}: has neither {FILES[0]} nor {FILES[1]}; put OpenAI's file there")
        path = found[0]
    problems = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            problems.append(_problem(json.loads(line)))
        except ValueError as error:  # json's own errors are ValueErrors too
            raise UserError(f"{path}, line {number}: {error}") from None
    if not problems:
        raise UserError(f"{path}: no problems in it; restore the file")
    return tuple(problems)


def _lines(path: Path) -> Iterator[str]:
    try:
        content = path.read_bytes()
        yield from (gzip.decompress(content) if path.suffix == ".gz" else content).decode().split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give HumanEval's {FILES[0]} or the folder that holds it") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore the file") from None


def _problem(row: Any) -> Problem:
    if not isinstance(row, dict):
        raise ValueError(f"a row must be a JSON object, not {type(row).__name__}")
    values: dict[str, str] = {}
    for key in (field.name for field in fields(Problem)):
        if not isinstance(row.get(key), str):
            found = json.dumps(row[key])[:60] if key in row else "none"
            raise ValueError(f"key {key!r} must be a string, found {found}")
        values[key] = row[key]
    if not values["entry_point"].isidentifier():
        raise ValueError(f"key 'entry_point' must be the name of a function, found {values['entry_point']!r}")
    return Problem(**values)


def extract_program(problem: Problem, answer: str) -> str:
    """The whole program that judges an answer: prompt, answer, tests, and the call that runs them.

    The code of a chat answer is its first fenced block that defines the function, or else its first block; a block that
    the answer's end has cut off counts. An answer without a block is code throughout: the whole function, or what comes
    after the prompt as a base model goes on, which ends at the first of STOPS. A block, too, may hold the body alone.
    The prompt stands before the code in any case, so its imports and helpers are there.
    """
    blocks: list[str] = _fence.findall(answer)
    definition = re.compile(rf"^(?:async )?def {problem.entry_point}\b", re.MULTILINE)
    if blocks:
        tried = (*blocks, *map(textwrap.dedent, blocks))  # a list's items indent their blocks
        code = next((block for block in tried if definition.search(block)), blocks[0])
        body = code if _starts_indented(code) else textwrap.indent(code, "    ")
    else:
        code = answer
        body = code[: min((place for stop in STOPS if (place := code.find(stop)) >= 0), default=len(code))]
    whole = definition.search(code) and not _starts_indented(code)
    solution = f"{problem.prompt}\n{code}" if whole else problem.prompt + body
    return f"{solution}\n{problem.test}\ncheck({problem.entry_point})\n"


def _starts_indented(code: str) -> bool:
    return code.lstrip("\r\n").startswith((" ", "\t"))


def grade(
    problems: Sequence[Problem],
    answers: Sequence[str],
    allow_code_execution: bool,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
    require_isolation: bool = True,
) -> tuple[Ran, ...]:
    """How the tests of each problem ended for its answer: right if and only if `end` is "passed".

    With allow_code_execution false nothing is run, and each is "not run". So it is, too, where the machine does not
    allow the whole sandbox, unless require_isolation is false as well: the user has then chosen to let generated code
    run with their own rights (`Protections.in_words` says what that means). `progress` hears 1 for each that is done,
    from a thread.
    """
    if len(problems) != len(answers):
        raise ValueError(f"{len(answers)} answers to {len(problems)} problems")
    if not allow_code_execution:
        return tuple(Ran("not run", stderr=NOT_ALLOWED) for _ in problems)
    if require_isolation and not (stood := protections()).isolated:
        return tuple(Ran("not run", stderr=stood.in_words(), protections=stood) for _ in problems)

    def run(program: str) -> Ran:
        ran = run_code(program, Limits(), require_isolation)
        if progress is not None:
            progress(1)
        return ran

    programs = [extract_program(problem, answer) for problem, answer in zip(problems, answers, strict=True)]
    with ThreadPoolExecutor(workers, thread_name_prefix="humaneval") as pool:
        return tuple(pool.map(run, programs))


def accuracy(grades: Sequence[Ran]) -> float | None:
    """pass@1 with one answer to each problem: the share that passed, 0 to 1. None where any was not run."""
    if not grades or any(ran.end == "not run" for ran in grades):
        return None
    return sum(ran.end == "passed" for ran in grades) / len(grades)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k answers is right, drawn without replacement from n of which c are: the paper's unbiased
    estimate for one problem (its equation 1). ValueError unless 0 <= c <= n and 1 <= k <= n."""
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} answers, {c} of them right: needs 0 <= c <= n and 1 <= k <= n")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)
