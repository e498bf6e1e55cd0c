"""The text column of a Parquet file, a few thousand rows at a time, whatever the size of its row groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamodules.prepare import batches as reasons
from datamodules.prepare.batches import Batch, Problem


def read_parquet(path: Path, shown: str, column: str, skip: int = 0) -> Iterator[Batch]:
    """The documents after the first `skip` rows, as batches; the last one holds the end of the file.

    A row group that cannot be read is one problem, and the next one is read."""
    size = path.stat().st_size
    nothing = pa.array([], pa.large_string())
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        yield Batch(nothing, 0, size, [Problem(shown, reasons.UNREADABLE, _first_line(error))], last=True)
        return
    with file:
        problem = _column_problem(file.schema_arrow, shown, column)
        if problem:
            yield Batch(nothing, 0, size, [problem], last=True)
            return
        total, first = file.metadata.num_rows, 0
        for group in range(file.metadata.num_row_groups):
            stop = first + file.metadata.row_group(group).num_rows
            if stop > skip:
                for batch in _row_group(file, shown, column, group, first, stop, skip):
                    yield Batch(batch.texts, batch.records, size * batch.records // max(1, total), batch.problems)
            first = stop
    yield Batch(nothing, total, size, last=True)


def _row_group(
    file: pq.ParquetFile, shown: str, column: str, group: int, first: int, stop: int, skip: int
) -> Iterator[Batch]:
    row = first
    try:
        for batch in file.iter_batches(reasons.BATCH_DOCUMENTS // 4, row_groups=[group], columns=[column]):
            wanted = batch.column(0)[max(0, skip - row) :]
            row += batch.num_rows
            if len(wanted):
                yield _checked(wanted, shown, row)
    except (pa.ArrowException, OSError) as error:
        problem = Problem(f"{shown}, row group {group}", reasons.UNREADABLE, _first_line(error))
        yield Batch(pa.array([], pa.large_string()), stop, 0, [problem])


def _checked(column: pa.Array, shown: str, stop: int) -> Batch:
    """The documents of some rows, the last of which is row `stop - 1` of the file."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    first = stop - len(column)
    problems = [Problem(shown, reasons.NULL)] * column.null_count
    texts = column.cast(pa.large_string(), safe=False)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        broken = [not _decodes(value) for value in texts.cast(pa.large_binary(), safe=False)]
        problems += [Problem(f"{shown}, row {first + row}", reasons.NOT_UTF8) for row, is_ in enumerate(broken) if is_]
        texts = texts.filter(pc.invert(pa.array(broken)))
    texts = texts.drop_null()
    # pyarrow's test for white space is false for the empty text
    empty = pc.or_(pc.equal(pc.binary_length(texts), 0), pc.utf8_is_space(texts))
    found = pc.sum(empty).as_py() or 0
    if found:
        problems += [Problem(shown, reasons.EMPTY)] * found
        texts = texts.filter(pc.invert(empty))
    return Batch(texts, stop, 0, problems)


def _column_problem(schema: pa.Schema, shown: str, column: str) -> Problem | None:
    if column not in schema.names:
        return Problem(shown, reasons.NO_COLUMN, f"there is no {column!r}, but {', '.join(schema.names[:8]) or 'none'}")
    kind = schema.field(column).type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if inner not in (pa.string(), pa.large_string(), pa.string_view()):
        return Problem(shown, reasons.NO_STRING, f"column {column!r} holds {kind}")
    return None


def _decodes(value: pa.Scalar) -> bool:
    content = value.as_py()
    try:
        return content is None or bool(content.decode() is not None)
    except UnicodeDecodeError:
        return False


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
