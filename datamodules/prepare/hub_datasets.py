"""`vnc prepare fineweb_edu` and `vnc prepare openwebtext`: pretraining text from the Hub, or from a local copy of it.

FineWeb-Edu (Penedo et al. 2024, arXiv 2406.17557) keeps its samples in `sample/10BT`, `sample/100BT` and
`sample/350BT`, and its crawls in `data/CC-MAIN-YYYY-WW`; its configurations are these folders.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datamodules.prepare.batches import Format
from datamodules.prepare.hub import find_hub, parse_address
from datamodules.prepare.pipeline import OnError, Output, prepare
from datamodules.prepare.source_files import Source, find_local
from vnc.errors import UserError

FINEWEB_EDU = "HuggingFaceFW/fineweb-edu"
OPENWEBTEXT = "Skylion007/openwebtext"
DEFAULT_CONFIG = "sample-10BT"
CONFIGS = {
    "sample-10BT": "sample/10BT",
    "sample-100BT": "sample/100BT",
    "sample-350BT": "sample/350BT",
    "default": "data",
}
_CRAWL = re.compile(r"CC-MAIN-\d{4}-\d{2}")


def fineweb_edu(
    out: str,
    config: str | None = None,
    source: str = FINEWEB_EDU,
    max_files: int | None = None,
    column: str = "text",
    seed: int = 42,
    shard_mb: int = 100,
    row_group: int = 1_000,
    val_documents: int | None = None,
    on_error: OnError = "stop",
) -> None:
    """Download FineWeb-Edu and shuffle it into Parquet shards, the last of which is validation.

    The same for any dataset with Parquet files on the Hub, such as --source karpathy/climbmix-400b-shuffle. A run that
    was interrupted goes on with the same command, and ends with the same files as one that was not.

    Args:
        out: Folder for the shards and manifest.json; must be empty or new.
        config: Of FineWeb-Edu: sample-10BT (when not given), sample-100BT, sample-350BT, default, or CC-MAIN-YYYY-WW.
        source: OWNER/NAME or hf://datasets/OWNER/NAME/folder on the Hub, or a local folder of Parquet files.
        max_files: Read only so many of the source's files, the first by name.
        column: Column that holds the text.
        seed: Order of the documents.
        shard_mb: Size of a shard, in millions of bytes, roughly.
        row_group: Documents in a Parquet row group.
        val_documents: Documents of the validation shard; a twentieth of all, 10,000 at most, when not given.
        on_error: Whether what is broken stops the run or is left out.
    """
    folder = config_folder(config, source)
    settings = {"source": source, "config": config, "max_files": max_files, "column": column}
    output = Output(Path(out), seed, shard_mb, row_group, val_documents, on_error)
    _prepare("fineweb_edu", source, folder, settings, output)


def openwebtext(
    out: str,
    source: str = OPENWEBTEXT,
    max_files: int | None = None,
    column: str = "text",
    seed: int = 42,
    shard_mb: int = 100,
    row_group: int = 1_000,
    val_documents: int | None = None,
    on_error: OnError = "stop",
) -> None:
    """Download OpenWebText and shuffle it into Parquet shards, the last of which is validation.

    A run that was interrupted goes on with the same command, and ends with the same files as one that was not.

    Args:
        out: Folder for the shards and manifest.json; must be empty or new.
        source: OWNER/NAME or hf://datasets/OWNER/NAME/folder on the Hub, or a local folder of Parquet files.
        max_files: Read only so many of the source's files, the first by name.
        column: Column that holds the text.
        seed: Order of the documents.
        shard_mb: Size of a shard, in millions of bytes, roughly.
        row_group: Documents in a Parquet row group.
        val_documents: Documents of the validation shard; a twentieth of all, 10,000 at most, when not given.
        on_error: Whether what is broken stops the run or is left out.
    """
    settings = {"source": source, "max_files": max_files, "column": column}
    output = Output(Path(out), seed, shard_mb, row_group, val_documents, on_error)
    _prepare("openwebtext", source, "", settings, output)


def config_folder(config: str | None, source: str) -> str:
    """The folder in FineWeb-Edu's repository that a configuration stands for; "" for another source."""
    if Path(source).exists() or parse_address(source) != (FINEWEB_EDU, ""):
        if config is not None:
            raise UserError(f"--config {config}: belongs to {FINEWEB_EDU}; of another source name the folder, as in "
                            "--source hf://datasets/OWNER/NAME/folder")  # fmt: skip
        return ""
    name = config or DEFAULT_CONFIG
    if name not in CONFIGS and not _CRAWL.fullmatch(name):
        raise UserError(f"--config {name}: FineWeb-Edu has {', '.join(CONFIGS)}, and CC-MAIN-YYYY-WW for each crawl")
    return CONFIGS.get(name, f"data/{name}")


def _prepare(dataset: str, source: str, folder: str, settings: dict[str, Any], output: Output) -> None:
    if output.out == Path(source):
        raise UserError(f"--out {source}: the source itself; choose another folder")
    max_files, column = settings["max_files"], settings["column"]
    if max_files is not None and max_files < 1:
        raise UserError(f"--max_files {max_files}: must be at least 1")

    def find() -> Source:
        if Path(source).exists():
            return find_local(source, output.out, (".parquet",), column, max_files)
        repo, inside = parse_address(source)
        return find_hub(repo, inside or folder, max_files)

    prepare(dataset, settings, find, Format(column), output)
