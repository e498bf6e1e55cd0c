"""The checkpoints that can be talked to: those below the runs folder, and nothing outside it.

Each is known by its place relative to that folder, which is also how it is shown. Symbolic links (`last`, `best`) are
not listed but name what they point to. What is there but cannot be opened is listed too, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlit_app.runs_folder import lies_within
from vnc.checkpoint import MODEL_DIR, MODEL_FILE, MODEL_JSON, PARTIAL, read_model_json
from vnc.errors import UserError
from vnc.tensor_files import check_shard
from vnc.tokenizer import FILE_NAME as TOKENIZER_JSON

DEEPEST = 5  # folders below the runs folder: NAME/checkpoints/step_N is 3

Kind = Literal["chat", "base"]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint or export, as far as its small files tell."""

    name: str
    """Its place below the runs folder, such as tiny_chat/checkpoints/step_00000100."""
    folder: Path
    kind: Kind | None
    """None if it is broken."""
    links: tuple[str, ...] = ()
    """Symbolic links beside it that point to it: last, best."""
    modified: float = 0.0
    """Seconds since 1970."""
    problem: str = ""
    """Why it cannot be opened."""

    @property
    def title(self) -> str:
        """The shortest name that a person still understands: the run and the step."""
        return " · ".join(self._parts())

    @property
    def label(self) -> str:
        """The title with what it is, before what a narrow page may cut off."""
        run, *rest = self._parts()
        return " · ".join((run, self.kind or "broken", *rest))

    def _parts(self) -> list[str]:
        parts = [part for part in self.name.split("/") if part != "checkpoints"]
        if parts[-1].startswith("step_") and parts[-1][5:].isdigit():
            parts[-1] = f"step {int(parts[-1][5:]):,}"
        if self.links:
            parts[-1] += f" ({', '.join(self.links)})"
        return parts


def find_checkpoints(runs: Path) -> list[Checkpoint]:
    """All checkpoints below `runs` (resolved): usable ones first, chat before base, a run's `last` before its other
    ones, then the newest first."""
    found = [_look(runs, folder) for folder in _folders(runs)]
    return sorted(
        found,
        key=lambda each: (bool(each.problem), each.kind != "chat", "last" not in each.links, -each.modified, each.name),
    )


def locate(runs: Path, name: str) -> Path:
    """The folder of the checkpoint called `name`. Raises UserError if it is not below `runs`, or gone."""
    folder = runs / name
    if not lies_within(folder, runs):
        raise UserError(f"{name}: no such checkpoint in {runs}; it may have been deleted, so choose another")
    return folder.resolve()


def _folders(runs: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(runs, followlinks=False):
        here = Path(place)
        depth = len(here.relative_to(runs).parts)
        if MODEL_JSON in files and depth:
            yield here
            folders.clear()
        elif depth == DEEPEST:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith((".", PARTIAL)))


def _look(runs: Path, folder: Path) -> Checkpoint:
    name = folder.relative_to(runs).as_posix()
    try:
        modified = (folder / MODEL_JSON).stat().st_mtime
        kind: Kind = "chat" if _check(runs, folder) else "base"
    except OSError as error:  # deleted this moment, or not ours to read
        return Checkpoint(name, folder, None, problem=f"{name}: {error.strerror}")
    except UserError as error:
        return Checkpoint(name, folder, None, _links(folder), modified, str(error).replace(str(runs) + os.sep, ""))
    return Checkpoint(name, folder, kind, _links(folder), modified)


def _check(runs: Path, folder: Path) -> bool:
    """Whether it was trained to chat. Raises UserError where opening it is bound to fail."""
    weights = [folder / MODEL_FILE] if (folder / MODEL_FILE).exists() else [folder / MODEL_DIR]
    weights += sorted(weights[0].glob("*.safetensors"))
    for path in (folder / MODEL_JSON, folder / TOKENIZER_JSON, *weights):
        if not path.exists():
            raise UserError(f"{folder} has no {path.name}; use another checkpoint")
        if not lies_within(path, runs):
            raise UserError(f"{path} is a link to a place outside the runs folder, where this app reads nothing")
    if weights == [folder / MODEL_DIR]:
        raise UserError(f"{weights[0]} has no *.safetensors files; use another checkpoint")
    try:
        _, chat = read_model_json(folder)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / MODEL_JSON} is not whole ({error!r:.60}); use another checkpoint") from None
    for path in weights:
        if path.is_file():
            check_shard(path)
    return chat


def _links(folder: Path) -> tuple[str, ...]:
    """last before best before others."""
    try:
        with os.scandir(folder.parent) as beside:
            names = [each.name for each in beside if each.is_symlink() and os.readlink(each.path) == folder.name]
    except OSError:
        return ()
    return tuple(sorted(names, key=lambda name: (name != "last", name)))
