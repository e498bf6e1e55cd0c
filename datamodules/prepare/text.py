"""`vnc prepare text`: your own files."""

from __future__ import annotations

from pathlib import Path

from datamodules.prepare.batches import Format
from datamodules.prepare.pipeline import OnError, Output, prepare
from datamodules.prepare.source_files import ALL_KINDS, find_local


def prepare_text(
    source: str,
    out: str,
    document: str = "file",
    column: str = "text",
    seed: int = 42,
    shard_mb: int = 100,
    row_group: int = 1_000,
    val_documents: int | None = None,
    on_error: OnError = "stop",
) -> None:
    """Shuffle the documents of your own files into Parquet shards, the last of which is validation.

    Reads .txt, .md, .jsonl and .csv (also with .gz after it) and .parquet. A run that was interrupted goes on with the
    same command, and ends with the same files as one that was not.

    Args:
        source: Files and folders, separated by commas; folders are read to the bottom, without hidden files.
        out: Folder for the shards and manifest.json; must be empty or new.
        document: What a document is in .txt and .md: a file, a line, or what stands between a text such as "\\n\\n".
        column: Column of .jsonl, .csv and .parquet that holds the text.
        seed: Order of the documents.
        shard_mb: Size of a shard, in millions of bytes, roughly.
        row_group: Documents in a Parquet row group.
        val_documents: Documents of the validation shard; a twentieth of all, 10,000 at most, when not given.
        on_error: Whether what is broken (no UTF-8, broken JSON, no such column ...) stops the run or is left out.
    """
    folder = Path(out)
    settings = {"source": source, "document": document, "column": column}
    output = Output(folder, seed, shard_mb, row_group, val_documents, on_error)
    prepare("text", settings, lambda: find_local(source, folder, ALL_KINDS, column), Format(column, document), output)
