"""The README and the guides as tests read them: their text, their blocks of code, and the prose between."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "LOG.md"))
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}

BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.S | re.M)
REPLACEMENT = re.compile(r"`([^`]+)` as `([^`]*)`")
NOT_RUN, SHORTENED = "not run: ", "shortened in tests: "


@dataclass(frozen=True)
class Block:
    """One block of code: its kind, the line it starts at, the comment above it, and the block of text right below."""

    kind: str
    text: str
    line: int
    note: str
    printed: str

    def shortened(self) -> str:
        """The code with the words exchanged that the comment names; each of them must be there."""
        text = self.text
        for old, new in REPLACEMENT.findall(self.note):
            assert old in text, f"line {self.line}: the comment replaces {old!r}, which is not in the block"
            text = text.replace(old, new)
        return text


def blocks(text: str) -> list[Block]:
    found = list(BLOCK.finditer(text))
    below = {match.start(): match["text"] for match in found if match["kind"] == "text"}
    return [
        Block(
            match["kind"],
            match["text"],
            line=text.count("\n", 0, match.start("text")) + 1,
            note=match["note"] or "",
            printed=below.get(match.end() + 2, "") if text.startswith("\n\n", match.end()) else "",
        )
        for match in found
    ]


BLOCKS = {page: blocks(text) for page, text in TEXTS.items()}
PROSE = {page: BLOCK.sub("", text) for page, text in TEXTS.items()}
