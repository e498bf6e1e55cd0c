"""Who can reach the app: this machine alone, or others too."""

from __future__ import annotations

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Addresses at which nobody but this machine's own users is heard."""


def only_this_machine() -> bool:
    """Whether the server listens at such an address. Where it listens everywhere (no address is set), others can."""
    from streamlit import config  # not above: launch.py reads LOCAL before it knows that Streamlit is there

    return config.get_option("server.address") in LOCAL
