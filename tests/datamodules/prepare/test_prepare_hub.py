"""Preparing from the Hub: real huggingface_hub, a Hub on 127.0.0.1 that fails in the ways of the real one."""

import io
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub, commit, running

from datamodules.prepare import hub as client
from datamodules.prepare import spill
from datamodules.prepare.hub_datasets import FINEWEB_EDU, OPENWEBTEXT

CLIMBMIX = "karpathy/climbmix-400b-shuffle"

Run = Callable[..., tuple[int, str, str]]


def parquet(texts: list[str], **columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": texts, **columns}), buffer, row_group_size=100)
    return buffer.getvalue()


def some(name: str, count: int = 250) -> list[str]:
    return [f"{name} {number} " + f"{number * 2**30:b} " * 20 for number in range(count)]


@pytest.fixture(scope="module")
def repositories() -> dict[str, dict[str, dict[str, bytes]]]:
    return {
        FINEWEB_EDU: {"main": {
            "README.md": b"# FineWeb-Edu",
            **{f"sample/10BT/00{k}_00000.parquet": parquet(some(f"sample {k}"), score=[1.5] * 250) for k in range(7)},
            "data/CC-MAIN-2024-10/train-00000-of-00001.parquet": parquet(some("crawl", 40)),
        }},
        OPENWEBTEXT: {"main": {"README.md": b"", "openwebtext.py": b""},
                      "refs/convert/parquet": {"plain_text/partial-train/0000.parquet": parquet(some("web", 30))}},
        CLIMBMIX: {"main": {f"shard_{k:05d}.parquet": parquet(some(f"mix {k}", 20)) for k in range(9)}},
        "me/empty": {"main": {"README.md": b"nothing"}},
    }  # fmt: skip


@pytest.fixture
def hub(repositories: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that listens, to which HF_ENDPOINT points; nothing waits long before it tries again."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with running(repositories) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def expected(repositories: dict[str, Any], repo: str, below: str, branch: str = "main") -> list[str]:
    files = {path: content for path, content in repositories[repo][branch].items() if path.startswith(below)}
    parts = [
        pq.read_table(io.BytesIO(files[path]))["text"].to_pylist() for path in sorted(files) if path.endswith("parquet")
    ]
    return sorted(text for part in parts for text in part)


def test_fineweb_edu(
    tmp_path: Path, hub: Hub, repositories: Any, vnc_prepare: Run, texts_of: Any, manifest_of: Any, contents: Any
) -> None:
    code, said, _ = vnc_prepare("fineweb_edu", "--out", tmp_path / "out")
    assert code == 0 and "1,663 documents" in said
    assert sorted(texts_of(tmp_path / "out")) == expected(repositories, FINEWEB_EDU, "sample/10BT/")
    manifest = manifest_of(tmp_path / "out")
    assert manifest["source"] == f"hf://datasets/{FINEWEB_EDU}@{commit(FINEWEB_EDU, 'main')}/sample/10BT"
    assert sorted(contents(tmp_path / "out")) == ["manifest.json", "shard_00000.parquet", "shard_00001.parquet"]
    downloads = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert len(downloads) == 7 and all(commit(FINEWEB_EDU, "main") in path for path in downloads)
    hub.requests.clear()
    assert "prepared already" in vnc_prepare("fineweb_edu", "--out", tmp_path / "out")[1]
    assert not hub.requests


def test_other_sources(
    tmp_path: Path, hub: Hub, repositories: Any, vnc_prepare: Run, refused: Any, texts_of: Any, manifest_of: Any
) -> None:
    assert vnc_prepare("fineweb_edu", "--config", "CC-MAIN-2024-10", "--out", tmp_path / "crawl")[0] == 0
    assert sorted(texts_of(tmp_path / "crawl")) == expected(repositories, FINEWEB_EDU, "data/")
    for number, source in enumerate([CLIMBMIX, f"hf://datasets/{CLIMBMIX}"]):
        out = tmp_path / str(number)
        assert vnc_prepare("fineweb_edu", "--source", source, "--max_files", 4, "--out", out)[0] == 0
        first = [text for k in range(4) for text in some(f"mix {k}", 20)]
        assert sorted(texts_of(out)) == sorted(first)
    code, _, shown = vnc_prepare("openwebtext", "--out", tmp_path / "web")
    assert code == 0 and "only a part" in shown and sorted(texts_of(tmp_path / "web")) == sorted(some("web", 30))
    assert manifest_of(tmp_path / "web")["source"].endswith(commit(OPENWEBTEXT, "refs/convert/parquet"))
    line = refused("fineweb_edu", "--config", "sample-1BT", "--out", tmp_path / "out")
    assert "--config sample-1BT: FineWeb-Edu has sample-10BT, sample-100BT, sample-350BT, default, and CC-MAIN" in line
    line = refused("fineweb_edu", "--config", "CC-MAIN-1999-01", "--out", tmp_path / "out")
    assert "data/CC-MAIN-1999-01: no Parquet files there" in line
    line = refused("fineweb_edu", "--config", "default", "--source", "me/empty", "--out", tmp_path / "out")
    assert "--config default: belongs to HuggingFaceFW/fineweb-edu" in line
    assert "me/empty: no Parquet files there" in refused(
        "fineweb_edu", "--source", "me/empty", "--out", tmp_path / "out"
    )
    assert "me/none: no such dataset on the Hub" in refused(
        "fineweb_edu", "--source", "me/none", "--out", tmp_path / "out"
    )
    assert "no such folder, and not a Hub dataset" in refused(
        "openwebtext", "--source", "a/b/c", "--out", tmp_path / "out"
    )
    assert "--max_files 0" in refused("openwebtext", "--max_files", 0, "--out", tmp_path / "out")
    assert "no such column" in refused("openwebtext", "--column", "body", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "source, parsed",
    [
        ("a/b", ("a/b", "")),
        ("hf://datasets/a/b", ("a/b", "")),
        ("hf://datasets/a/b/c/d/", ("a/b", "c/d")),
        ("https://huggingface.co/datasets/a-x/b.y", ("a-x/b.y", "")),
        ("https://huggingface.co/datasets/a/b/tree/main/c/d", ("a/b", "c/d")),
    ],
)
def test_addresses(source: str, parsed: tuple[str, str]) -> None:
    assert client.parse_address(source) == parsed


@pytest.mark.parametrize("where", ["/api/datasets/[^/]+/[^/]+$", "/tree/", "HEAD /datasets/", "GET /datasets/"])
@pytest.mark.parametrize("fault", [500, 429, 503, "cut"])
def test_what_passes(tmp_path: Path, hub: Hub, vnc_prepare: Run, texts_of: Any, where: str, fault: int | str) -> None:
    """The first three requests of a kind fail; then it works: tried again until it does, and nothing half is kept."""
    left = 3

    def fail(method: str, path: str) -> int | str | None:
        nonlocal left
        if left and re.search(where, f"{method} {path}"):
            left -= 1
            return fault
        return None

    hub.fault = fail
    assert vnc_prepare("fineweb_edu", "--config", "CC-MAIN-2024-10", "--out", tmp_path / "out")[0] == 0
    assert sorted(texts_of(tmp_path / "out")) == sorted(some("crawl", 40))
    assert left in (0, 2)  # of files there is one HEAD and one GET if the client itself goes on


@pytest.mark.parametrize("where", ["/api/datasets/[^/]+/[^/]+$", "/tree/", "HEAD /datasets/", "GET /datasets/.*003_0"])
def test_what_never_passes(tmp_path: Path, hub: Hub, vnc_prepare: Run, refused: Any, texts_of: Any, where: str) -> None:
    """One line; what was downloaded is kept and not downloaded again."""
    hub.fault = lambda method, path: 500 if re.search(where, f"{method} {path}") else None
    line = refused("fineweb_edu", "--out", tmp_path / "out")
    assert "the Hub keeps failing (HTTP 500 for " in line and "give the same command again" in line
    kept = list(tmp_path.rglob("downloads/sample/*/*.parquet"))
    assert len(kept) == (3 if "003" in where else 0)
    hub.fault = lambda method, path: None
    hub.requests.clear()
    assert vnc_prepare("fineweb_edu", "--out", tmp_path / "out")[0] == 0
    assert len([path for method, path in hub.requests if method == "GET" and "/resolve/" in path]) == 7 - len(kept)


def test_cut_for_ever(tmp_path: Path, hub: Hub, refused: Any) -> None:
    hub.fault = lambda method, path: "cut" if method == "GET" else None
    hub.repositories = {**hub.repositories, FINEWEB_EDU: {"main": {"sample/10BT/a.parquet": b"x" * 3}}}
    assert "the Hub keeps failing" in refused("fineweb_edu", "--out", tmp_path / "out")
    assert not list(tmp_path.rglob("*.parquet"))


def test_other_content_than_listed(tmp_path: Path, hub: Hub, repositories: Any, refused: Any) -> None:
    """Of the right length but another checksum: not taken."""
    files = dict(repositories[FINEWEB_EDU]["main"])
    hub.repositories = {FINEWEB_EDU: {"main": files}}
    path = "data/CC-MAIN-2024-10/train-00000-of-00001.parquet"
    whole = files[path]

    def swap(method: str, requested: str) -> None:
        files[path] = whole[:-20] + b"y" * 20 if "/resolve/" in requested else whole

    hub.fault = swap
    line = refused("fineweb_edu", "--config", "CC-MAIN-2024-10", "--out", tmp_path / "out")
    assert "did not arrive as the Hub lists it" in line


def test_no_hub_at_all(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "the Hub keeps failing (ConnectError" in refused("fineweb_edu", "--out", tmp_path / "out")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("fineweb_edu", "--out", tmp_path / "out")


def test_downloads_are_kept_only_as_long_as_needed(
    tmp_path: Path, hub: Hub, vnc_prepare: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "COMMIT_BYTES", 1)
    most = 0

    def count(method: str, path: str) -> None:
        nonlocal most
        most = max(most, len(list((tmp_path / "out").rglob("downloads/sample/*/*.parquet"))))

    hub.fault = count
    assert vnc_prepare("fineweb_edu", "--out", tmp_path / "out")[0] == 0
    assert most <= 2


@pytest.mark.slow
def test_killed_at_random_and_started_again(
    tmp_path: Path, hub: Hub, killed_until_done: Any, start_prepare: Any, contents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    variables = dict(HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(tmp_path / "cache"), HF_HUB_DISABLE_PROGRESS_BARS="1")
    whole: subprocess.Popen[bytes] = start_prepare(["fineweb_edu", "--out", tmp_path / "whole"], **variables)
    assert whole.communicate(timeout=60) and whole.returncode == 0

    def slowly(method: str, path: str) -> None:
        time.sleep(0.15 * ("/resolve/" in path))

    hub.fault = slowly
    options = dict(commit_bytes=100_000, batch=50, slow=0.01, **variables)
    killed_until_done(tmp_path / "out", ["fineweb_edu"], kills=9, longest=0.6, **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not os.path.exists(tmp_path / "cache")
