"""Spelling's conversations are data: a checkpoint trained on them is repeated only if not one byte of them changes."""

import hashlib
import json

import pytest

from datamodules.tasks.spelling import Spelling


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        (False, "69700872ca4ed9858dfcb76f8da7e30560eca917eca149a1077bbe75e489d6d8"),
        (True, "4a2304c22a59f71fb9377d68cd3c9c2c100d962f789efe2ffd9a4ff6e4a39c24"),
    ],
)
def test_conversations_are_byte_for_byte_those_of_november_2026(validation: bool, expected: str) -> None:
    """Taken before the questions moved to vnc/spelling.py."""
    task, digest = Spelling(3_000, validation), hashlib.sha256()
    for index in range(len(task)):
        digest.update(json.dumps(task.conversation(index).to_dicts()).encode())
    assert digest.hexdigest() == expected
