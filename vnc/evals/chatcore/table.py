"""Test files as rows: JSON Lines or Parquet with the same columns."""

from __future__ import annotations

from pathlib import Path

from vnc.errors import UserError
from vnc.evals.json_rows import Row, read_json_lines


def read_table(path: Path) -> list[Row]:
    """Every row of a .parquet or .jsonl file; at least one. Raises UserError."""
    if path.suffix != ".parquet":
        return read_json_lines(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            values = file.read().to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a whole Parquet file ({' '.join(str(error).split())[:100]}); fetch it again"
        ) from None
    if not values:
        raise UserError(f"{path}: no rows in it; restore the file")
    return [Row(f"{path}, row {number}", row) for number, row in enumerate(values)]
