"""The entry that Streamlit runs: the pages, and what they have in common."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import streamlit as st

from vnc.memory import keep_freed_memory

PAGES = Path(__file__).parent / "views"  # Streamlit takes a folder named pages for its older kind of pages

# (file, title, icon)
LISTED = (
    ("chat", "Chat", ":material/chat:"),
    ("runs", "Runs", ":material/show_chart:"),
    ("evals", "Evals", ":material/leaderboard:"),
    ("scaling", "Scaling", ":material/trending_up:"),
    ("plan", "Plan", ":material/calculate:"),
)


# Streamlit leaves 6 rem above a page and 10 below; its bar at the top takes 3.75.
ROOM = """<style>
[data-testid=stMainBlockContainer] { padding-top: 4.75rem; padding-bottom: 3rem; }
[data-testid=stBottomBlockContainer] { padding-bottom: 1.5rem; }
</style>"""


@st.cache_resource
def prepare_process() -> bool:
    """Once for the process, whichever page is opened first."""
    return keep_freed_memory()


st.set_page_config(page_title="vnc", page_icon=":material/forum:", layout="wide")
st.html(ROOM)
prepare_process()
pages = [
    st.Page(PAGES / f"{name}.py", title=title, icon=icon, url_path=name, default=name == "chat")
    for name, title, icon in LISTED
]
page = st.navigation(pages, position="top")
if page.title == "Chat" and "torch" not in sys.modules:
    with st.spinner("Starting: a few seconds, once ..."):
        importlib.import_module("streamlit_app.chat_server")
page.run()
