"""Files with a model's answers and a judge's verdicts: written whole, and never over others.

The same answers give the same bytes, so a repeated run leaves its files as they are. Where a file of that name holds
something else, that is kept beside it under the next free number.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import count
from pathlib import Path

from vnc.errors import UserError


def write_kept(path: Path, text: str) -> None:
    """Writes UTF-8 text beside its place, flushed, then renamed; folders are made as needed. What other content `path`
    held before is renamed to `path.1`, `path.2` and so on. Raises UserError where nothing can be written."""
    content = text.encode("utf-8")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() == content:
            return
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            path.rename(next(free for n in count(1) if not (free := path.with_name(f"{path.name}.{n}")).exists()))
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def checked_model_id(model_id: str) -> str:
    """A model's name that can name its files too. Raises UserError."""
    if not re.fullmatch(r"\w[\w.-]*", model_id):
        raise UserError(f"model id {model_id!r} names files: use letters, digits, '.', '-' and '_' only")
    return model_id


def file_name(name: str) -> str:
    """A judge's name as a part of a file's name: org/model becomes org_model."""
    return re.sub(r"[^\w.-]+", "_", name)
