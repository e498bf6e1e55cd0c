"""How bad data must end: in one line."""

from typing import Any

import pytest

from vnc.errors import UserError


def refused(match: str) -> Any:
    """A context in which a UserError of a single line that matches must be raised; the test fails if none is."""
    return pytest.raises(UserError, match=rf"\A[^\n]*{match}[^\n]*\Z")
