"""Parquet files of a dataset on the Hugging Face Hub: listed at one commit, downloaded one at a time, checked.

The Hub's own client does the talking (retries within a request, Xet, tokens, HF_ENDPOINT); a download that fails all
the same is tried again after a while. What arrives is held against the size and SHA-256 of the listing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from datamodules.prepare.source_files import SourceFile
from datamodules.prepare.workplace import DOWNLOADS
from vnc.errors import UserError

Result = TypeVar("Result")

CONVERTED = "refs/convert/parquet"
"""The branch on which the Hub keeps a Parquet copy of datasets that come in other formats."""
ATTEMPTS = 5
PATIENCE = 60.0  # seconds after which a failing request is not tried again
_ADDRESS = re.compile(
    r"(?:hf://datasets/|https?://[^/]+/datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:/(?:tree/[^/]+/)?(?P<folder>.+?))?/?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 22


@dataclass(frozen=True)
class HubFiles:
    """Parquet files of one dataset at one commit."""

    repo: str
    commit: str
    folder: str
    files: tuple[SourceFile, ...]

    @property
    def name(self) -> str:
        return f"hf://datasets/{self.repo}@{self.commit}" + (f"/{self.folder}" if self.folder else "")

    @property
    def scratch(self) -> int:
        return max(file.size for file in self.files)

    def fetch(self, file: SourceFile, scratch: Path, reached: Callable[[int], None]) -> Path:
        folder = scratch / DOWNLOADS
        path = patiently(lambda: download(self.repo, self.commit, file, folder, reached), f"{self.repo}: {file.name}")
        reached(file.size)
        return path

    def release(self, file: SourceFile, scratch: Path) -> None:
        (scratch / DOWNLOADS / file.name).unlink(missing_ok=True)


def parse_address(source: str) -> tuple[str, str]:
    """(OWNER/NAME, folder or "") of `OWNER/NAME`, `hf://datasets/OWNER/NAME[/folder]` or a dataset page's address."""
    match = _ADDRESS.fullmatch(source)
    plain = source.count("/") == 1 or "//" in source
    if not match or not plain:
        raise UserError(
            f"--source {source}: no such folder, and not a Hub dataset; write hf://datasets/OWNER/NAME/folder"
        )
    return match["repo"], match["folder"] or ""


def find_hub(
    repo: str, folder: str = "", max_files: int | None = None, pattern: str = "", converted_folder: str | None = None
) -> HubFiles:
    """The Parquet files of a dataset, below `folder` and matching `pattern`, in the order of their names.

    Those of the dataset itself; if it has none there, those of the branch that the Hub converts to Parquet, below
    `converted_folder` (default: all of them when `folder` is "", else the same folder).
    """
    converted_folder = folder if converted_folder is None else converted_folder
    for revision, place in ((None, folder), (CONVERTED, converted_folder)):
        commit, entries = patiently(lambda p=place, r=revision: _list(repo, p, r), repo)  # type: ignore[misc]
        wanted = sorted(
            (entry for entry in entries if entry.path.endswith(".parquet") and re.search(pattern, entry.path)),
            key=lambda entry: str(entry.path),
        )
        if wanted:
            if any("/partial-" in entry.path for entry in wanted):
                print(
                    f"{repo}: the Hub has converted only a part of it to Parquet, which is what is read",
                    file=sys.stderr,
                )
            return HubFiles(repo, commit, place, tuple(_describe(repo, entry) for entry in wanted[:max_files]))
    place = f"{repo}/{folder}" if folder else repo
    raise UserError(f"{place}: no Parquet files there on the Hub{f' like {pattern}' * bool(pattern)}; look at the "
                    "dataset's page and name another folder")  # fmt: skip


def _list(repo: str, folder: str, revision: str | None) -> tuple[str, list[Any]]:
    """The commit that `revision` is now, and its files below `folder`."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=_endpoint())
    try:
        commit = api.dataset_info(repo, revision=revision, timeout=30).sha or ""
        tree = api.list_repo_tree(repo, folder or None, recursive=True, revision=commit, repo_type="dataset")
        return commit, [entry for entry in tree if isinstance(entry, RepoFile)]
    except (EntryNotFoundError, RevisionNotFoundError):
        return "", []


def download(repo: str, commit: str, file: SourceFile, folder: Path, reached: Callable[[int], None]) -> Path:
    """The file below `folder`, whole: of the listed size and SHA-256. One that is there already is taken."""
    from huggingface_hub import hf_hub_download

    path = folder / file.name
    if not _is_whole(path, file):
        path.unlink(missing_ok=True)
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # pieces that a killed run left cannot be used
        hf_hub_download(
            repo, file.name, repo_type="dataset", revision=commit, local_dir=folder, endpoint=_endpoint(),
            tqdm_class=_reporting(reached),
        )  # fmt: skip
        if not _is_whole(path, file):
            path.unlink(missing_ok=True)
            raise ConnectionError(f"{file.name} did not arrive as the Hub lists it")
    return path


def patiently(action: Callable[[], Result], what: str) -> Result:
    """`action()`, tried again while the Hub or the way to it fails; UserError in one line when it keeps failing."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what goes wrong is told here, in one line each
    begun = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except Exception as error:
            if not _may_pass(error):
                raise _explained(error, what) from error
            if attempt == ATTEMPTS or time.monotonic() - begun > PATIENCE:
                raise UserError(f"{what}: the Hub keeps failing ({_short(error)}); what is done is kept: give the same "
                                "command again later") from error  # fmt: skip
            wait = 2 ** (attempt - 1)
            print(f"{what}: {_short(error)}; trying again in {wait} s", file=sys.stderr)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    """Whether an error may be gone at the next attempt: of the network, or of the server."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    # The base of its HTTP errors is that of the library it talks through, whose others are failures of the network.
    if isinstance(error, (HfHubHTTPError.__bases__[0], ConnectionError)):
        return True
    if isinstance(error, LocalEntryNotFoundError):  # what the client makes of a failing request for metadata
        cause = error.__cause__
        return not isinstance(cause, Exception) or _may_pass(cause)
    return isinstance(error, OSError) and "Consistency check failed" in str(error)


def _explained(error: Exception, what: str) -> Exception:
    """UserError for what the user can mend, else the error itself."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return UserError(
            f"{what}: HF_HUB_OFFLINE is set, so nothing can be downloaded; unset it, or use a local --source"
        )
    if isinstance(error, GatedRepoError):
        return UserError(f"{what}: its owner asks for consent; give it on the dataset's page and set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"{what}: no such dataset on the Hub, or a private one (then set HF_TOKEN); and no such local folder"
        )
    if isinstance(error, HFValidationError):
        return UserError(f"{what}: not the name of a Hub dataset; write OWNER/NAME")
    if isinstance(error, HfHubHTTPError):
        return UserError(f"{what}: the Hub refuses ({_short(error)})")
    return error


def _is_whole(path: Path, file: SourceFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if not _SHA256.fullmatch(file.version):
        return True
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == file.version


def _describe(repo: str, entry: Any) -> SourceFile:
    version = entry.lfs.sha256 if entry.lfs else entry.blob_id
    return SourceFile(entry.path, f"{repo}/{entry.path}", entry.size, version, entry.size)


def _endpoint() -> str | None:
    """Read at every call: the client reads HF_ENDPOINT only when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


def _reporting(reached: Callable[[int], None]) -> type[Any]:
    """A class in place of the client's progress bar: shows nothing, and tells how many bytes have come."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    bar: Any = tqdm

    class Reporting(bar):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **(options | {"disable": True}))
            self._come = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._come += int(n or 0)
            reached(self._come)

    return Reporting


def _short(error: Exception) -> str:
    cause = (
        error.__cause__
        if isinstance(error.__cause__, Exception) and type(error).__name__.startswith("LocalEntry")
        else error
    )
    response = getattr(cause, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} for {response.request.url.path}"
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}{': ' + text[0] if text else ''}"[:200]
