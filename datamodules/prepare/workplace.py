"""The output folder while it is being filled: whose it is, whether there is room, and what may go on in it.

DIR/.prepare holds `run.json` (the settings and the source's files), the spills, downloads and journals; it is gone when
DIR/manifest.json says that all is done. One process works in a folder at a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.durable import write_json
from datamodules.manifest import MANIFEST, Manifest, check_files, read_manifest
from vnc.errors import UserError

STATE = ".prepare"
RUN = "run.json"
LOCK = "lock"
DOWNLOADS = "downloads"
PROGRESS = ("spilled.json", "shards.jsonl", DOWNLOADS)  # what shows that something was done
_OURS = re.compile(r"shard_\d{5,}\.parquet")
_SPARE = 50_000_000  # bytes that a disk should keep free


def already_done(out: Path, settings: Mapping[str, Any]) -> Manifest | None:
    """The manifest of a folder that these very settings have filled; None when there is work to do.

    UserError when other settings filled it, when its shards have changed, or when it holds anything foreign."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file; name a folder")
    manifest = read_manifest(out)
    if manifest is not None:
        key = _difference(manifest.settings, settings)
        if key is not None:
            raise UserError(f"--out {out}: holds data prepared with {_values(key, manifest.settings, settings)}; "
                            "choose another --out, or remove that folder first")  # fmt: skip
        check_files(out, manifest)
        shutil.rmtree(out / STATE, ignore_errors=True)  # a crash between manifest and clearing up
        return manifest
    if (out / STATE / RUN).exists():
        begun = _read_run(out)["settings"]
        key = _difference(begun, settings)
        if key is not None:
            raise UserError(f"--out {out}: holds an interrupted preparation with {_values(key, begun, settings)}; go "
                            f"on with {_spelled(key, begun.get(key))}, or remove {out} to start afresh")  # fmt: skip
    return None


def refuse_foreign(out: Path, folders: frozenset[str] = frozenset()) -> None:
    """UserError when the folder holds what no preparation put there; `folders` may be in it."""
    begun = (out / STATE / RUN).exists()
    for path in sorted(out.iterdir()) if out.is_dir() else []:
        ours = path.name == STATE or begun and (_OURS.fullmatch(path.name) or path.name in folders
                                                or path.name == f"{MANIFEST}.part")  # fmt: skip
        if not ours:
            raise UserError(
                f"--out {out}: holds {path.name}, which is not from a preparation; choose an empty or new folder"
            )


def refuse_small_disk(out: Path, needed: int) -> None:
    """UserError with the figures when the disk of `out` has no room for `needed` more bytes."""
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed + _SPARE > free:
        raise UserError(f"--out {out}: about {(needed + _SPARE) / 1e9:,.2f} GB are needed and {free / 1e9:,.2f} GB are "
                        "free there; free some space, or choose an --out on a larger disk")  # fmt: skip


def used(out: Path) -> int:
    """Bytes that an interrupted preparation has taken already."""
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.is_dir() else 0


@contextmanager
def workplace(out: Path, run: dict[str, Any]) -> Iterator[Path]:
    """DIR/.prepare, made or found again, for this process alone.

    Args:
        run: what an interrupted run must have begun with to go on: settings, source files. JSON-able.

    UserError when DIR cannot be written to, when another process works in it, when the source has changed, and, with
    everything kept for the next run, when the disk is full."""
    state = out / STATE
    existed = out.is_dir()
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / LOCK).open("w")
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written to ({error.strerror}); choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"--out {out}: another vnc prepare is at work there; wait for it to end") from None
        try:
            _begin(out, state, run)
            yield state
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(f"--out {out}: the disk is full; what is done is kept, so free some space and give the "
                            "same command again") from None  # fmt: skip
        except UserError:
            if not any((state / name).exists() for name in PROGRESS):
                discard(out, remove_folder=not existed)  # nothing was done: leave no trace
            raise


def discard(out: Path, remove_folder: bool = False) -> None:
    """Remove DIR/.prepare, and DIR if it is then empty and ours."""
    shutil.rmtree(out / STATE, ignore_errors=True)
    if remove_folder and not any(out.iterdir()):
        out.rmdir()


def _begin(out: Path, state: Path, run: dict[str, Any]) -> None:
    path = state / RUN
    begun = _read_run(out) if path.exists() else None
    if begun is not None and any((state / name).exists() for name in PROGRESS):
        known, now = ({file["shown"]: file for file in of["files"]} for of in (begun, run))
        changed = next((name for name in {**known, **now} if known.get(name) != now.get(name)), None)
        if changed is not None or list(known) != list(now):
            raise UserError(f"{changed or run['source']}: not what it was when the preparation in {out} was cut off; "
                            f"restore it, or remove {out} to start afresh")  # fmt: skip
        return
    write_json(path, run)


def _read_run(out: Path) -> dict[str, Any]:
    path = out / STATE / RUN
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove {out} and start again") from None
    return run


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    return next((key for key in {**now, **before} if before.get(key) != now.get(key)), None)


def _values(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{key} {before.get(key)}, now it is {now.get(key)}"


def _spelled(key: str, value: Any) -> str:
    if key == "dataset":
        return f"vnc prepare {value}"
    return f"--{key} {value}" if value is not None else f"no --{key}"
