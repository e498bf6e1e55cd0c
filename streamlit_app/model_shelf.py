"""Opened models, shared by all browser sessions: each is loaded once, and the least recently used ones make room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vnc.chat import open_model
from vnc.checkpoint import MODEL_JSON, LoadedModel
from vnc.engine import Engine


@dataclass(frozen=True, eq=False)
class SharedModel:
    """An opened checkpoint. It is only read, so that any number of sessions can use it, each with a cache of its
    own."""

    name: str
    loaded: LoadedModel
    engine: Engine


@dataclass(frozen=True)
class _Book:
    stamp: tuple[int, int]
    model: SharedModel


class ModelShelf:
    """At most `places` opened models. Its methods may be called from any thread."""

    def __init__(self, places: int, opener: Callable[[str], LoadedModel] = open_model) -> None:
        self.places = places
        self._open = opener
        self._lock = threading.Lock()
        self._books: OrderedDict[Path, _Book] = OrderedDict()
        self._opening: dict[Path, threading.Lock] = {}

    def take(self, folder: Path, name: str) -> SharedModel:
        """The model in `folder`, opened now unless it is here already. One that was deleted or replaced since: what is
        here goes on if the folder has gone, and is opened anew if it holds another model. Raises UserError where it
        cannot be opened."""
        with self._lock:
            opening = self._opening.setdefault(folder, threading.Lock())
        with opening:  # two sessions that want the same model open it once
            stamp = _stamp(folder)
            with self._lock:
                book = self._books.get(folder)
                if book is not None and stamp in (None, book.stamp):
                    self._books.move_to_end(folder)
                    return book.model
                self._books.pop(folder, None)
                while len(self._books) >= self.places:
                    self._books.popitem(last=False)
            loaded = self._open(str(folder))
            model = SharedModel(name, loaded, Engine(loaded.gpt, loaded.tokenizer))
            if stamp is not None:
                with self._lock:
                    self._books[folder] = _Book(stamp, model)
            return model

    def __contains__(self, folder: Path) -> bool:
        with self._lock:
            return folder in self._books


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when another checkpoint takes this place; None where there is none."""
    try:
        found = (folder / MODEL_JSON).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
