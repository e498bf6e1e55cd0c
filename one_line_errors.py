"""Argument parsers that report a mistake in one line."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import jsonargparse


class OneLineErrors(jsonargparse.ArgumentParser):
    """Mixin: options are written out in full, and `error` prints one line to stderr and exits with 2, without the usage
    text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation would take a mistyped --model.dept for --model.depth.
        super().__init__(*args, **(kwargs | {"allow_abbrev": False}))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(str(message).split())
        print(f"error: {line} (see {self.prog.removesuffix(' [options]')} --help)", file=sys.stderr)
        raise SystemExit(2)
