"""The corpus behind URLs of each kind, and what comes back from them."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from datamodules.parquet import Shard, read_texts
from tests.datamodules.http_server import FileServer, S3Server


def pattern(server: FileServer) -> str:
    return f"{server.url}/data/shard_{{0..2}}.parquet"


def s3_url(server: S3Server, user: str = "key:secret@") -> str:
    return f"s3://{user}data?scheme=http&endpoint_override={server.host}&region=us-east-1"


def texts_of(training: tuple[Shard, ...], validation: Shard, threads: int = 1) -> list[list[str]]:
    groups = [(shard, group) for shard in (*training, validation) for group in range(len(shard.row_groups))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda each: read_texts(*each), groups))


def manifest(files: dict[str, bytes]) -> bytes:
    """As `vnc prepare` writes it, in the parts that matter here."""
    shards = [
        {"name": Path(name).name, "rows": 1, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    whole = {"format": 1, "dataset": "text", "source": "here", "settings": {}, "left_out": {}, "documents": 460}
    return json.dumps(whole | {"shards": shards}).encode()


@contextmanager
def served(kind: str, files: dict[str, bytes]) -> Iterator[tuple[str, FileServer | None]]:
    """The same files behind a URL of each kind."""
    if kind == "s3":
        with S3Server(files) as s3:
            yield s3_url(s3), s3
    elif kind == "memory":
        import fsspec  # type: ignore[import-untyped]

        for name, content in files.items():
            fsspec.filesystem("memory").pipe_file(f"/{name}", content)
        yield "memory://data", None
    else:
        with FileServer(files | {"data/manifest.json": manifest(files)}) as http:
            yield (f"{http.url}/data" if kind == "folder" else pattern(http)), http
