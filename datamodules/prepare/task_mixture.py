"""`vnc prepare task_mixture`: the chat and question sets of mid-training, as DIR/<task>/<split>.parquet.

The rows are the Hub's own, in its order and with its columns. They are taken from the Parquet files in each repository
(`<folder>/<split>-00000-of-00001.parquet`), not from the dataset viewer's listing of converted files: one service
less can fail, one commit pins them, and the listing's sizes and checksums prove each download. Where a repository has
no Parquet files, the Hub's conversion branch is read (hub.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.durable import append_line, write_whole
from datamodules.manifest import Manifest, ShardEntry, write_manifest
from datamodules.prepare.hub import find_hub
from datamodules.prepare.shards import JOURNAL, entry_of, finished, parquet_writer
from datamodules.prepare.source_files import LocalFiles, Source, SourceFile
from datamodules.prepare.workplace import STATE, already_done, refuse_foreign, refuse_small_disk, used, workplace
from datamodules.progress import Progress
from vnc.errors import UserError

ROW_GROUP = 1_000
LOCAL_KINDS = (".parquet", ".jsonl")


@dataclass(frozen=True)
class Task:
    """Where a task lies on the Hub."""

    repo: str
    folder: str
    splits: tuple[str, ...]


TASKS = {
    "smoltalk": Task("HuggingFaceTB/smol-smoltalk", "data", ("train", "test")),
    "mmlu": Task("cais/mmlu", "all", ("auxiliary_train", "validation", "dev", "test")),
    "gsm8k": Task("openai/gsm8k", "main", ("train", "test")),
    "arc_easy": Task("allenai/ai2_arc", "ARC-Easy", ("train", "validation", "test")),
    "arc_challenge": Task("allenai/ai2_arc", "ARC-Challenge", ("train", "validation", "test")),
    "humaneval": Task("openai/openai_humaneval", "openai_humaneval", ("test",)),
}
MIXTURE = ",".join(name for name, task in TASKS.items() if task.splits != ("test",))  # what can be trained on


def task_mixture(out: str, tasks: str = MIXTURE, source: str | None = None) -> None:
    """Download the chat and question sets of mid-training: one Parquet file for each task and split.

    A run that was interrupted goes on with the same command.

    Args:
        out: Folder for <task>/<split>.parquet and manifest.json; must be empty or new.
        tasks: Some of smoltalk, mmlu, gsm8k, arc_easy, arc_challenge and humaneval, separated by commas. The last is
            for `vnc evaluate --suite chatcore` alone, which reads the test splits of all but smoltalk.
        source: Local folder with <task>/<split>.parquet or .jsonl to read instead of the Hub.
    """
    names, folder = _chosen(tasks), Path(out)
    settings = {"dataset": "task_mixture", "tasks": names, "source": source}
    manifest = already_done(folder, settings)
    if manifest is not None:
        print(f"{folder}: prepared already with these settings: {_described(manifest)}")
        return
    refuse_foreign(folder, frozenset(names))
    splits = [(name, split) for name in names for split in TASKS[name].splits]
    found = {f"{name}/{split}.parquet": _find(name, split, source) for name, split in splits}
    files = [file for one in found.values() for file in one.files]
    scratch = max(one.scratch * len(one.files) for one in found.values())
    refuse_small_disk(folder, 2 * sum(file.size for file in files) + scratch - used(folder))
    where = source or ", ".join(dict.fromkeys(one.name for one in found.values()))
    run = {"settings": settings, "source": where, "files": [vars(file) for file in files]}
    with workplace(folder, run) as state:
        done = finished(folder, state)
        with Progress("reading", sum(file.size for file in files)) as progress:
            before = 0
            for name, one in found.items():
                if name not in done:
                    done[name] = _write_split(folder, state, name, one, progress, before)
                    append_line(state / JOURNAL, vars(done[name]))
                for file in one.files:
                    one.release(file, state)
                before += sum(file.size for file in one.files)
                progress.reach(before)
        entries = tuple(done[name] for name in found)
        manifest = Manifest("task_mixture", where, settings, entries, {}, sum(entry.rows for entry in entries))
        write_manifest(folder, manifest)
    shutil.rmtree(folder / STATE)
    print(f"{folder}: {_described(manifest)}")


def _chosen(tasks: str) -> list[str]:
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    unknown = next((name for name in names if name not in TASKS), None)
    if unknown is not None or not names:
        raise UserError(f"--tasks {unknown or tasks}: there are {', '.join(TASKS)}")
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    if twice is not None:
        raise UserError(f"--tasks {tasks}: {twice} is named twice, and both would be written to {twice}/; name it once")
    return names


def _find(name: str, split: str, source: str | None) -> Source:
    task = TASKS[name]
    if source is None:
        # A repository's own files are SPLIT-00000-of-00001.parquet, those of the conversion branch SPLIT/0000.parquet.
        pattern = rf"(^|/)(partial-)?{split}(-\d+-of-\d+\.parquet|/[^/]+|\.parquet)$"
        return find_hub(task.repo, task.folder, None, pattern, "default" if task.folder == "data" else task.folder)
    if not Path(source).is_dir():
        raise UserError(f"--source {source}: no such folder; it must hold <task>/<split>.parquet or .jsonl")
    paths = [path for kind in LOCAL_KINDS if (path := Path(source) / name / f"{split}{kind}").is_file()]
    if not paths:
        raise UserError(
            f"--source {source}: no {name}/{split}.parquet or .jsonl in it; add it, or leave out {name} with --tasks"
        )
    if len(paths) > 1:
        raise UserError(f"{paths[1]}: {paths[0].name} is there too, and both would become {name}/{split}.parquet; "
                        "remove one")  # fmt: skip
    status = paths[0].stat()
    version = f"{status.st_size} bytes of {status.st_mtime_ns}"
    file = SourceFile(f"{name}/{paths[0].name}", str(paths[0]), status.st_size, version, status.st_size)
    return LocalFiles(source, (file,))


def _write_split(out: Path, state: Path, name: str, source: Source, progress: Progress, before: int) -> ShardEntry:
    """Fetch all files of a split and write them, one after another, as one."""
    paths = []
    for file in source.files:
        path = source.fetch(file, state, lambda size, before=before: progress.reach(before + size))  # type: ignore[misc]
        paths.append((path, file.shown))
        before += file.size
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        rows = _concatenate(file, paths)
        (out / name).parent.mkdir(exist_ok=True)  # not before all is read, so that a bad source leaves no trace

    write_whole(out / name, write, state / f"{name.replace('/', '-')}.part")
    return entry_of(out, name, rows)


def _concatenate(into: BinaryIO, paths: list[tuple[Path, str]]) -> int:
    """The rows of all files; the columns are those of the first."""
    writer, rows = None, 0
    try:
        for path, shown in paths:
            for table in _tables(path, shown):
                if writer is None:
                    schema = table.schema.remove_metadata()
                    writer = parquet_writer(into, schema)
                try:
                    writer.write_table(table.cast(schema), ROW_GROUP)
                except (pa.ArrowException, ValueError) as error:
                    raise UserError(
                        f"{shown}: its columns differ from those of {paths[0][1]} ({_one_line(error)})"
                    ) from None
                rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    if not rows:
        raise UserError(f"{paths[0][1]}: holds no rows; fetch or write it again")
    return rows


def _tables(path: Path, shown: str) -> Iterator[pa.Table]:
    if path.suffix == ".jsonl":
        yield _json_table(path, shown)
        return
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ROW_GROUP):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{shown}: not a whole Parquet file ({_one_line(error)}); fetch or write it again") from None


def _json_table(path: Path, shown: str) -> pa.Table:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(
                    f"{shown}:{number}: broken JSON ({_one_line(error)}); mend the line or remove it"
                ) from None
            if not isinstance(rows[-1], dict):
                raise UserError(
                    f"{shown}:{number}: a {type(rows[-1]).__name__}, not an object; mend the line or remove it"
                )
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise UserError(f"{shown}: its lines do not agree on the kinds of their values ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _described(manifest: Manifest) -> str:
    return f"{manifest.documents:,} rows in {len(manifest.shards)} files"
