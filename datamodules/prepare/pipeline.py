"""Source files to a finished folder of shuffled shards: checks, pass 1, pass 2, manifest; from wherever it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.manifest import Manifest, write_manifest
from datamodules.prepare import order
from datamodules.prepare.batches import UNKNOWN_KIND, Format, refuse_bad_format
from datamodules.prepare.left_out import LeftOut
from datamodules.prepare.readers import read_file
from datamodules.prepare.shards import write_shards
from datamodules.prepare.source_files import LocalFiles, Source
from datamodules.prepare.spill import Spilled, Spiller
from datamodules.prepare.workplace import (
    STATE,
    already_done,
    discard,
    refuse_foreign,
    refuse_small_disk,
    used,
    workplace,
)
from datamodules.progress import Progress
from vnc.errors import UserError

OnError = Literal["stop", "skip"]
SPILL_RATIO = 1.25  # bytes of a spill, of those of its shard


@dataclass(frozen=True)
class Output:
    """How the shards shall be."""

    out: Path
    seed: int = 42
    shard_mb: int = 100
    row_group: int = 1_000
    val_documents: int | None = None
    on_error: OnError = "stop"

    def settings(self) -> dict[str, Any]:
        """What the bytes depend on; not `on_error`, so that a run that stopped can go on with skip."""
        return {"seed": self.seed, "shard_mb": self.shard_mb, "row_group": self.row_group,
                "val_documents": self.val_documents}  # fmt: skip

    def refuse_bad(self) -> None:
        """UserError for a value out of range."""
        for name in ("shard_mb", "row_group", "val_documents"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: must be 0 or more, and less than 2^63")


def prepare(
    dataset: str, settings: dict[str, Any], find: Callable[[], Source], format: Format, output: Output
) -> Manifest:
    """Fill `output.out` with the documents of the source that `find` finds; says so and does nothing if it is filled.

    Args:
        settings: the verb's own options that the bytes depend on.
    """
    output.refuse_bad()
    refuse_bad_format(format)
    out = output.out
    settings = {"dataset": dataset} | settings | output.settings()
    manifest = already_done(out, settings)
    if manifest is not None:
        print(f"{out}: prepared already with these settings: {_described(manifest)}")
        return manifest
    refuse_foreign(out)
    source = find()
    estimate = sum(file.estimate for file in source.files)
    refuse_small_disk(out, int(SPILL_RATIO * estimate) + source.scratch - used(out))
    run = {"settings": settings, "source": source.name, "files": [asdict(file) for file in source.files]}
    with workplace(out, run) as state:
        spiller = Spiller(state, order.spill_count(estimate, output.shard_mb), output.seed)
        spilled = spill(source, format, spiller, state, output.on_error)
        try:
            plans = order.plan_shards(spilled.rows, output.val_documents)
        except UserError:
            discard(out)  # no other source and no other setting could go on from here
            raise
        shards = write_shards(out, state, plans, [file.name for file in source.files], output.row_group)
        manifest = Manifest(dataset, source.name, settings, tuple(shards), dict(sorted(spilled.left_out.items())),
                            spilled.documents)  # fmt: skip
        write_manifest(out, manifest)
    shutil.rmtree(out / STATE)
    print(f"{out}: {_described(manifest)}")
    return manifest


def spill(source: Source, format: Format, spiller: Spiller, state: Path, on_error: OnError) -> Spilled:
    """Pass 1, from where the last commit in `state` says it stopped."""
    done = spiller.state
    if done.complete:
        return done
    left_out = LeftOut(on_error == "stop", done.left_out)
    if not (done.file or done.records) and isinstance(source, LocalFiles) and source.passed_over:
        left_out.counts[UNKNOWN_KIND] = len(source.passed_over)
    files, skip = source.files, done.records
    before = sum(file.size for file in files[: done.file])
    kept_from = done.file  # downloads of files from here on may still be there

    def commit(number: int, records: int, complete: bool = False) -> None:
        nonlocal kept_from
        spiller.commit(number, records, left_out.counts, complete)
        while kept_from < number:
            source.release(files[kept_from], state)
            kept_from += 1

    with Progress("reading", sum(file.size for file in files)) as progress:
        progress.resume_at(before)
        for number in range(done.file, len(files)):
            file = files[number]
            path = source.fetch(file, state, lambda size, before=before: progress.reach(before + size))  # type: ignore[misc]
            for batch in read_file(path, file.shown, format, skip):
                left_out.add(batch.problems)
                progress.reach(before + batch.position)
                if left_out.broken:
                    continue  # to count what else is broken in this file
                spiller.add(batch.texts, number, file.shown)
                if spiller.due and not batch.last:
                    commit(number, batch.records)
            left_out.refuse(file.shown)
            before, skip = before + file.size, 0
            progress.reach(before)
            if spiller.due:
                commit(number + 1, 0)
        commit(len(files), 0, complete=True)
    return spiller.state


def _described(manifest: Manifest) -> str:
    *training, validation = manifest.shards
    left_out = LeftOut(False, manifest.left_out).summary()
    documents = manifest.documents - validation.rows
    return (f"{len(training):,} shard{'s' * (len(training) > 1)} to train on with {documents:,} documents, "
            f"{validation.name} with {validation.rows:,} for validation{left_out}")  # fmt: skip
