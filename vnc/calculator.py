"""The tool a chat model can call: arithmetic, and counting a text in a text.

What the model wrote is parsed, never executed: a walk over Python's syntax tree knows numbers, + - * / // % **,
brackets and `"text".count("x")`, and refuses all else. Length, exponents and results are bounded, so every call takes
well under a millisecond. The answer is always a text that the model can read on from; where there is no result, it
starts with "error:".
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable

MAX_CHARACTERS = 200
MAX_BITS = 200  # of a whole number, about 60 digits
MAX_EXPONENT = 1_000
SHOWN_DIGITS = 10  # significant digits of a fraction

Number = int | float

_arithmetic = re.compile(r"[0-9eE.,_+\-*/%() \t]+")
_thousands = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


class _Refused(Exception):
    """The message says why, in words for the model."""


def calculate(expression: str) -> str:
    """The value of `expression` as text: whole numbers in full, others with up to 10 significant digits."""
    try:
        return _shown(_value(_parsed(expression)))
    except _Refused as refusal:
        return f"error: {refusal}"
    except ZeroDivisionError:
        return "error: division by zero"
    except OverflowError:
        return "error: number too large"


def _parsed(expression: str) -> ast.expr:
    expression = expression.strip()
    if not expression:
        raise _Refused("nothing to calculate")
    if len(expression) > MAX_CHARACTERS:
        raise _Refused(f"longer than {MAX_CHARACTERS} characters")
    if _arithmetic.fullmatch(expression):
        expression = _thousands.sub("", expression)  # 1,250 is how people, and models, write 1250
    elif ".count" not in expression or "\\" in expression:
        raise _Refused("not arithmetic")
    try:
        return ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what Python's parser raises for bad or deep text
        raise _Refused("not arithmetic") from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATIONS:
            return _bounded(_OPERATIONS[type(op)](_value(left), _value(right)))
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str() as text), attr="count"),
            args=[ast.Constant(value=str() as part)],
            keywords=[],
        ):
            return text.count(part)
    raise _Refused("not arithmetic")


def _divide(a: Number, b: Number) -> Number:
    """A whole number where it comes out even: 48 / 2 is 24, not 24.0, and exact at any size."""
    return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b


def _power(a: Number, b: Number) -> Number:
    if abs(b) > MAX_EXPONENT:
        raise _Refused(f"exponent beyond {MAX_EXPONENT}")
    if isinstance(a, int) and isinstance(b, int) and b > 0 and a.bit_length() * b > MAX_BITS + b:
        raise _Refused("number too large")  # found before it is computed: a^b has more than (bits - 1) x b bits
    result = a**b
    if isinstance(result, complex):
        raise _Refused("root of a negative number")
    return result


_OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}


def _bounded(number: Number) -> Number:
    if isinstance(number, int):
        if number.bit_length() > MAX_BITS:
            raise _Refused("number too large")
    elif not math.isfinite(number):
        raise _Refused("number too large")
    return number


def _shown(number: Number) -> str:
    if isinstance(number, int):
        return str(number)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return f"{number:.{SHOWN_DIGITS}g}"
