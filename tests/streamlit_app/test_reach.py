"""Only an address that nobody else can reach counts as this machine's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("streamlit", reason="the app needs Streamlit: pip install 'vnc[app]'")

from streamlit import config

from streamlit_app.reach import only_this_machine


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    before = config.get_option("server.address")
    yield
    config.set_option("server.address", before)


@pytest.mark.parametrize(
    ("address", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("192.0.2.1", False), (None, False)],
)
def test_only_this_machine(address: str | None, alone: bool) -> None:
    config.set_option("server.address", address)
    assert only_this_machine() is alone
