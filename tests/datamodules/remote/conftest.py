"""Shards behind a loopback server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules import remote
from datamodules.recent import RECENT
from tests.datamodules.http_server import FileServer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts, and nothing in memory from another test."""
    monkeypatch.setattr(remote, "WAITS", (0.0,) * 5)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    RECENT.forget()


@pytest.fixture(scope="module")
def files(corpus: Path) -> dict[str, bytes]:
    return {f"data/{path.name}": path.read_bytes() for path in sorted(corpus.glob("*.parquet"))}


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[FileServer]:
    with FileServer(files) as running:
        yield running
