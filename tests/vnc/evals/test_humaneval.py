"""HumanEval: what counts as an answer, and that right ones pass and wrong ones fail."""

import ast
import gzip
import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import vnc.evals.sandbox
from vnc.errors import UserError
from vnc.evals.humaneval import Problem, accuracy, extract_program, grade, pass_at_k, read_problems
from vnc.evals.sandbox import Ran, protections

PROBLEM = Problem(
    "Test/0",
    "import math\n\ndef helper(x: int) -> int:\n    return x\n\ndef double(x: int) -> int:\n"
    '    """Twice x, by way of helper."""\n',
    "    return helper(x) + x\n",
    "\ndef check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n",
    "double",
)
RIGHT = {
    "body as a base model goes on": "    return helper(x) + x\n",
    "base model that rambles": "    return helper(x) + x\n\n\ndef double(x):\n    return 0\n\nprint(double(",
    "base model with a comment after it": "    return 2 * x\n# The end,\nas it were",
    "whole function without a fence": "def double(x):\n    return 2 * x\n",
    "with an import of its own": "import math\ndef double(x):\n    return math.floor(2 * x)\n",
    "fenced": "Sure:\n\n```python\ndef double(x):\n    return 2 * x\n```\n\nIt doubles x.",
    "fenced, without a language, helper from the prompt": "```\ndef double(x):\n    return helper(x) * 2\n```",
    "fenced, cut off": "Here:\n```python\ndef double(x):\n    return 2 * x\n",
    "second block has it": "```sh\npip install x\n```\n```python\ndef double(x):\n    return 2 * x\n```",
    "two blocks with it": "```\ndef double(x):\n    return 2 * x\n```\n```\ndef double(x):\n    return 3\n```",
    "fenced body": "```python\n    return 2 * x\n```",
    "fenced body, not indented": "```python\ny = 2 * x\nif y:\n    return y\nreturn 0\n```",
    "fenced in a list": "1. So:\n\n   ```python\n   def double(x):\n       return 2 * x\n   ```\n",
    "carriage returns": "```python\r\ndef double(x):\r\n    return 2 * x\r\n```\r\n",
    "async helper beside it": "```python\nasync def f(): ...\ndef double(x):\n    return 2 * x\n```",
}
WRONG = {
    "nothing": "",
    "prose": "I am not able to do that.",
    "another name": "```python\ndef triple(x):\n    return 2 * x\n```",
    "no return": "    2 * x\n",
    "leaves before the tests": "def double(x):\n    return 2 * x\nraise SystemExit(0)\n",
    "ends the process before the tests": "    import os; os._exit(0)\n",
    "does not parse": "```python\ndef double(x:\n```",
    "wrong for one": "    return x * x\n",
}

needs_isolation = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not protections().isolated, reason="this machine allows no whole sandbox"
)


@needs_isolation
def test_answers() -> None:
    answers = {**RIGHT, **WRONG}
    told: list[int] = []
    grades = grade([PROBLEM] * len(answers), list(answers.values()), True, progress=told.append)
    passed = {name for name, ran in zip(answers, grades, strict=True) if ran.end == "passed"}
    assert passed == set(RIGHT)
    assert sum(told) == len(answers)
    assert accuracy(grades) == len(RIGHT) / len(answers)


def test_a_program_is_prompt_answer_and_tests() -> None:
    program = extract_program(PROBLEM, PROBLEM.canonical_solution)
    assert program == f"{PROBLEM.prompt}{PROBLEM.canonical_solution}\n{PROBLEM.test}\ncheck(double)\n"


def test_without_permission_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vnc.evals.humaneval, "run_code", lambda *_: pytest.fail("ran"))
    grades = grade([PROBLEM], ["    return 2 * x\n"], allow_code_execution=False)
    assert [ran.end for ran in grades] == ["not run"]
    assert "allow_code_execution" in grades[0].stderr
    assert accuracy(grades) is None and accuracy([]) is None


def test_where_there_is_no_isolation_it_takes_a_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vnc.evals.sandbox, "_layers", vnc.evals.sandbox._Layers(namespaces=False))
    protections.cache_clear()
    try:
        grades = grade([PROBLEM], ["    return 2 * x\n"], allow_code_execution=True)
        assert [ran.end for ran in grades] == ["not run"]
        assert "not isolated" in grades[0].stderr
        if sys.platform.startswith("linux"):
            (ran,) = grade([PROBLEM], ["    return 2 * x\n"], True, require_isolation=False)
            assert ran.end == "passed" and not ran.protections.isolated
    finally:
        protections.cache_clear()


def test_accuracy_leaves_no_problem_out() -> None:
    assert accuracy([Ran("passed"), Ran("timeout"), Ran("failed"), Ran("passed")]) == 0.5
    assert accuracy([Ran("passed"), Ran("not run")]) is None


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_counts_the_draws(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = list(itertools.combinations([1] * c + [0] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4), (0, 0, 1)])
def test_pass_at_k_refuses(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="right"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize("name", ["HumanEval.jsonl", "HumanEval.jsonl.gz"])
def test_reading(tmp_path: Path, name: str) -> None:
    content = (json.dumps(asdict(PROBLEM) | {"more": 1}) + "\n\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read_problems(tmp_path) == read_problems(tmp_path / name) == (PROBLEM,)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"", "no problems"),
        ("x.jsonl", b"{}\n", "line 1: key 'task_id' must be a string, found none"),
        ("x.jsonl", json.dumps(asdict(PROBLEM) | {"test": 3}).encode(), "line 1: key 'test' .* found 3"),
        ("x.jsonl", json.dumps(asdict(PROBLEM) | {"entry_point": "f(); g"}).encode(), "entry_point"),
        ("x.jsonl", b"[]\n", "must be a JSON object"),
        ("x.jsonl", b"{\n", "line 1"),
        ("x.jsonl", b"\xff", "cannot be read"),
        ("x.jsonl.gz", b"not gzip", "cannot be read"),
        ("x.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read"),
        ("y.jsonl", None, "no such file"),
        (".", None, "has neither"),
    ],
)
def test_reading_names_the_mistake(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_problems(path)


# The real problems


@pytest.fixture(scope="module")
def problems(shared_data: Path) -> tuple[Problem, ...]:
    return read_problems(shared_data / "chat")


def spoiled(problem: Problem) -> str:
    """The right solution, whose every value is then changed a little."""
    return (
        f"```\n{problem.prompt}{problem.canonical_solution}\n_right = {problem.entry_point}\n"
        "def _spoil(value):\n"
        "    if value is None or isinstance(value, bool): return not value\n"
        "    if isinstance(value, (int, float)): return value + 1\n"
        "    if isinstance(value, (str, list, tuple)): return value + type(value)('x')\n"
        "    if isinstance(value, dict): return {**value, 'x': 1}\n"
        "    raise TypeError(value)\n"
        f"def {problem.entry_point}(*given): return _spoil(_right(*given))\n"
    )


class Flip(ast.NodeTransformer):
    """Change the first comparison, sum, difference or whole number in the solution."""

    pairs = ((ast.Lt, ast.GtE), (ast.LtE, ast.Gt), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Add, ast.Sub))
    operators = {**dict(pairs), **{other: one for one, other in pairs}}
    done = False

    def visit(self, node: ast.AST) -> ast.AST:
        if not self.done and type(node) in self.operators:
            self.done = True
            return self.operators[type(node)]()
        if not self.done and isinstance(node, ast.Constant) and type(node.value) is int:
            self.done = True
            return ast.Constant(node.value + 1)
        return self.generic_visit(node)


def mutant(problem: Problem) -> str:
    """The function with one small slip in it, or an empty text where there is nothing to change."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    flip = Flip()
    body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point][-1]
    flip.visit(body)
    return ast.unparse(body) if flip.done else ""


@needs_isolation
@pytest.mark.slow
def test_the_164_right_solutions_pass(problems: tuple[Problem, ...]) -> None:
    grades = grade(problems, [problem.canonical_solution for problem in problems], True)
    assert len(grades) == 164
    assert not {p.task_id: ran for p, ran in zip(problems, grades, strict=True) if ran.end != "passed"}


@needs_isolation
@pytest.mark.slow
def test_164_spoiled_solutions_fail(problems: tuple[Problem, ...]) -> None:
    grades = grade(problems, [spoiled(problem) for problem in problems], True)
    assert not {p.task_id: ran for p, ran in zip(problems, grades, strict=True) if ran.end != "failed"}


@needs_isolation
@pytest.mark.slow
def test_small_slips_are_found(problems: tuple[Problem, ...]) -> None:
    """A slip may change nothing that is tested, or nothing at all, as in a first guess that is overwritten: not all
    fail, but the tests must find nearly all."""
    mutants = [(problem, code) for problem in problems if (code := mutant(problem))]
    assert len(mutants) > 140
    grades = grade([problem for problem, _ in mutants], [code for _, code in mutants], True)
    alive = {problem.task_id: code for (problem, code), ran in zip(mutants, grades, strict=True) if ran.end == "passed"}
    assert len(alive) < 0.1 * len(mutants), alive
