"""Tokens kept on disk: each shard is tokenised once, and training maps the result into memory.

Beside the shards, in .tokens/<tokenizer>/, lies an Arrow IPC file for each of them: one record batch for each row
group, with one list of token ids (uint16, or uint32 for large vocabularies) for each document, BOS first. A file says
which shard it was made from, by its SHA-256, and is made again when that has changed. Nothing but whole files is ever
seen: each is written beside its place, flushed and renamed, by one process while the others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.documents import Documents
from datamodules.durable import sync_folder
from datamodules.parquet import COLUMN, Shard, read_texts
from datamodules.progress import Progress
from datamodules.shard_files import LocalFile
from datamodules.tokenized_text import token_dtype, tokenize
from datamodules.windows import TextWindows
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

FOLDER = ".tokens"
FORMAT = 1
BYTES_PER_TEXT_BYTE = 0.75
"""Room asked for before tokenising: ids of two bytes stand for 3 to 5 bytes of text, ids of four for somewhat more."""


class MappedTokens:
    """The tokens of one shard, mapped. Cheap to make, and to send to another process."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError or an Arrow error if the file is not whole."""
        self.path = path
        # numpy closes the file once it is mapped, so that thousands of shards do not need as many open files.
        mapped = np.memmap(path, mode="r", dtype=np.uint8)
        self._lock = threading.Lock()
        self._reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
        self.made_from: dict[str, Any] = json.loads(self._reader.schema.metadata[b"vnc"])

    def __reduce__(self) -> tuple[type[MappedTokens], tuple[Path]]:
        return MappedTokens, (self.path,)

    def group(self, group: int, first: int, stop: int) -> Documents:
        """The documents `first` to `stop` of a row group; views, no copies."""
        with self._lock:
            lists = self._reader.get_batch(group).column(0)
        starts = lists.offsets.to_numpy()[first : stop + 1].astype(np.int64)
        return Documents(lists.values.to_numpy()[starts[0] : starts[-1]], starts - starts[0])


@dataclass(frozen=True, eq=False)
class CachedText:
    """The documents of text windows, from the token cache. The same as `TokenizedText`'s."""

    texts: TextWindows
    tokens: dict[Shard, MappedTokens]
    vocab_size: int

    @property
    def name(self) -> str:
        return self.texts.name

    @property
    def count(self) -> int:
        return self.texts.count

    def documents(self, epoch: int, window: int) -> Documents:
        parts = []
        for shard, group, first, stop in self.texts.stretches(window):
            part = self.tokens[shard].group(group, first, stop)
            largest = int(part.tokens.max(initial=0))
            if largest >= self.vocab_size:
                raise UserError(f"{self.tokens[shard].path}, row group {group}: token id {largest} is outside the "
                                f"vocabulary of {self.vocab_size}, so the file is damaged; remove it, and it is made "
                                "again")  # fmt: skip
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        ends = np.cumsum([0, *(len(part.tokens) for part in parts)])
        starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return Documents(np.concatenate([part.tokens for part in parts]), np.concatenate([*starts, ends[-1:]]))


def token_cache(shards: Sequence[Shard], tokenizer: Tokenizer, folder: Path) -> dict[Shard, MappedTokens]:
    """The tokens of local shards, from `folder`; those that are missing there, or were made from another content, are
    made first, with progress. Raises UserError where the folder cannot be written or has no room."""
    return _TokenFiles(folder / tokenizer.fingerprint[:16], tokenizer).of(shards)


@dataclass(frozen=True)
class _TokenFiles:
    folder: Path
    tokenizer: Tokenizer

    def of(self, shards: Sequence[Shard]) -> dict[Shard, MappedTokens]:
        found = {shard: self._whole(shard) for shard in shards}
        if None in found.values():
            try:
                with self._alone():  # another process may have made them meanwhile
                    missing = [shard for shard in shards if self._whole(shard) is None]
                    self._check_room(missing)
                    self._make(missing)
            except OSError as error:
                raise UserError(
                    f"{self.folder}: tokens cannot be written ({error.strerror}); make room there, name another "
                    "--data.cache_dir, or tokenise on the fly with --data.token_cache false"
                ) from error
            found = {shard: self._whole(shard) for shard in shards}
        whole = {shard: tokens for shard, tokens in found.items() if tokens is not None}
        if len(whole) < len(found):
            raise UserError(f"{self.folder}: token files were removed or damaged just now; start again")
        return whole

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.name}.arrow"

    def _whole(self, shard: Shard) -> MappedTokens | None:
        """The tokens of this very shard, None if they have yet to be made."""
        path = self._path(shard)
        try:
            tokens = MappedTokens(path)
            known = tokens.made_from
            same = (
                known["format"] == FORMAT
                and known["tokenizer"] == self.tokenizer.fingerprint
                and known["row_groups"] == list(shard.row_groups)
                and known["size"] == shard.size
            )
            assert isinstance(shard.file, LocalFile)
            # Copied, touched or exchanged? The manifest knows, or else the content.
            if same and known["stamp"] != list(shard.file.stamp) and shard.file.version != f"sha256 {known['sha256']}":
                same = known["sha256"] == _sha256(shard.file.path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            warnings.warn(f"{path}: not a whole token file ({' '.join(str(error).split())[:80]}); it is made again",
                          stacklevel=1)  # fmt: skip
            return None
        return tokens if same else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time, on this machine and on file systems that share locks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _check_room(self, shards: Sequence[Shard]) -> None:
        text = sum(_text_bytes(shard) for shard in shards)
        needed, free = round(BYTES_PER_TEXT_BYTE * text), shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(f"{self.folder}: tokens need about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
                            "make room, or tokenise on the fly with --data.token_cache false")  # fmt: skip

    def _make(self, shards: Sequence[Shard]) -> None:
        threads = os.cpu_count() or 1
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="tokenise") as pool,
            Progress("tokenising once", sum(_text_bytes(shard) for shard in shards)) as progress,
        ):
            for shard in shards:
                self._make_one(shard, pool, 2 * threads, progress)

    def _make_one(self, shard: Shard, pool: ThreadPoolExecutor, ahead: int, progress: Progress) -> None:
        """Row groups are tokenised at once, a few ahead of the one that is written."""
        assert isinstance(shard.file, LocalFile)
        digest = pool.submit(_sha256, shard.file.path)
        path, value = self._path(shard), pa.from_numpy_dtype(token_dtype(self.tokenizer))
        made_from = {
            "format": FORMAT,
            "tokenizer": self.tokenizer.fingerprint,
            "row_groups": shard.row_groups,
            "size": shard.size,
            "stamp": shard.file.stamp,
            "sha256": digest.result(),
        }
        schema = pa.schema([pa.field("tokens", pa.list_(value))], metadata={b"vnc": json.dumps(made_from).encode()})
        part = path.with_name(f".{path.name}.{os.getpid()}")
        coming: deque[Future[pa.RecordBatch]] = deque()
        share = _text_bytes(shard) / max(1, len(shard.row_groups))
        try:
            with part.open("wb") as file:
                with pa.ipc.new_file(file, schema) as writer:
                    for group in range(len(shard.row_groups)):
                        coming.append(pool.submit(self._batch, shard, group, schema))
                        if len(coming) > ahead:
                            writer.write_batch(coming.popleft().result())
                            progress.advance(round(share))
                    while coming:
                        writer.write_batch(coming.popleft().result())
                        progress.advance(round(share))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            sync_folder(path.parent)
        finally:
            for future in coming:
                future.cancel()
            part.unlink(missing_ok=True)

    def _batch(self, shard: Shard, group: int, schema: pa.Schema) -> pa.RecordBatch:
        """One row group; a document that holds nothing is an empty list, so that rows keep their numbers."""
        documents = tokenize(read_texts(shard, group), self.tokenizer)
        if documents.starts[-1] > np.iinfo(np.int32).max:
            raise UserError(f"{shard}, row group {group}: more than 2,147,483,647 tokens; write smaller row groups "
                            "(`vnc prepare text --source`)")  # fmt: skip
        lists = pa.ListArray.from_arrays(
            pa.array(documents.starts.astype(np.int32)), pa.array(documents.tokens), type=schema.field(0).type
        )
        return pa.record_batch([lists], schema=schema)


def _text_bytes(shard: Shard) -> int:
    """Bytes of the shard's text, uncompressed."""
    assert isinstance(shard.file, LocalFile)
    metadata = pq.read_metadata(shard.file.path)
    column = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == COLUMN)
    groups = range(metadata.num_row_groups)
    return sum(metadata.row_group(group).column(column).total_uncompressed_size for group in groups)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
