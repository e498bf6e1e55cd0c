"""The calculator against Python's own arithmetic, and against what a model might write to break it."""

import random
import time

import pytest

from vnc.calculator import MAX_CHARACTERS, calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12+7", "19"),
        (" 3 * (4 + 5) ", "27"),
        ("-3**2", "-9"),
        ("2**10 % 1000", "24"),
        ("7 // 2", "3"),
        ("-7 % 3", "2"),
        ("48/2", "24"),  # comes out even: a whole number
        ("1/4", "0.25"),
        ("1/3", "0.3333333333"),
        ("0.1+0.2", "0.3"),
        ("2.50*4", "10"),
        ("5.", "5"),
        ("2**0.5", "1.414213562"),
        ("2**-2", "0.25"),
        ("1e3 + 1", "1001"),
        ("10**16 / 3", "3.333333333e+15"),
        ("10**40 / 10**39", "10"),
        ("99999999999999999999 + 1", "100000000000000000000"),  # whole numbers are exact
        ("1,250*2", "2500"),
        ("1,250,000 + 1", "1250001"),
        ('"strawberry".count("r")', "3"),
        ("'a,000 b'.count(',0')", "1"),
        ('"banana".count("an") * 2 + 1', "5"),
    ],
)
def test_results(expression: str, result: str) -> None:
    assert calculate(expression) == result


def test_random_arithmetic_equals_pythons() -> None:
    draw = random.Random(0)

    def expression(depth: int) -> str:
        if depth == 0:
            return str(draw.randint(0, 99))
        left, right = expression(depth - 1), expression(draw.randrange(depth))
        return draw.choice(["({}{}{})", "{} {} {}", "-{}{}{}"]).format(
            left, draw.choice(["+", "-", "*", "//", "%"]), right
        )

    computed = 0
    for _ in range(500):
        text = expression(draw.randint(1, 4))
        try:
            expected = str(eval(text))  # the oracle; the text is our own
        except ZeroDivisionError:
            expected = "error: division by zero"
        computed += "error" not in expected
        assert calculate(text) == expected, text
    assert computed > 300


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "two plus two",
        "1 +",
        "(1, 2)",
        "1,25 + 1",
        "True + 1",
        "1j * 1j",
        "1 < 2",
        "x",
        "[1][0]",
        '"a" * 5',
        '"a" + "b".count("b")',
        '"a".upper()',
        '"abc".count("b", 1)',
        '"abc".count',
        '"abc".count(1)',
        '"a b".split().count("a")',
        'f"{1}".count("1")',
        '__import__("os").system("true").count("x")',
        "().__class__.__bases__",
        "(lambda: 1)()",
        '"\\x61".count("a")',
        "1\x00+1",
        "1\n+1",
        "1 if 1else 2",
        "٣ + ٤",
        "9" * (MAX_CHARACTERS + 1),
        "1/0",
        "5 % 0",
        "0 ** -1",
        "(-8) ** (1/3)",
        "10 ** 100",
        "9 ** 9 ** 9",
        "2 ** 1001",
        "1.5 ** 1000 ** 2",
        "1e308 * 10",
        "1e999",
        "-" * (MAX_CHARACTERS - 1),
        "(" * 99 + "1" + ")" * 100,
    ],
)
def test_everything_else_is_an_error_that_reads_as_one(expression: str, recwarn: pytest.WarningsRecorder) -> None:
    answer = calculate(expression)
    assert answer.startswith("error: ") and answer.isprintable() and len(answer) < 60
    assert not recwarn.list  # Python's parser warns on stderr about some texts; a chat must stay clean


def test_nothing_takes_long_or_grows() -> None:
    """Texts of the greatest length, nested and chained in every way that could grow."""
    length = MAX_CHARACTERS
    hostile = [
        "-" * (length - 1) + "1",
        "(" * (length // 2 - 1) + "1" + ")" * (length // 2 - 1),
        ("9**" * length)[: length - 1] + "9",
        ("99**99*" * length)[: length - 1] + "9",
        ("9" * 40 + "*") * 4 + "9" * 30,
        "2**199*2**-1000*3**100//7" + "**-999" * 20,
        "1" + "/3" * ((length - 1) // 2),
        '"' + "a" * (length - 14) + '".count("a")',
    ]
    start = time.perf_counter()
    for text in hostile:
        assert len(text) <= length
        assert len(calculate(text)) <= 70, text
    assert time.perf_counter() - start < 0.2
