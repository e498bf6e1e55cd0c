"""The cache on disk: its cap, its order, several processes, damage, and processes that are killed."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import disk_cache
from datamodules.disk_cache import ABANDONED_SECONDS, DiskCache
from datamodules.recent import Recent
from vnc.errors import UserError

HEAD = 32  # bytes of the checksum that every entry begins with


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.range"))


def content(key: int) -> bytes:
    return bytes([key % 251]) * (100 + key * 37 % 400)


@given(
    cap=st.integers(0, 3000),
    doings=st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_out_is_what_went_in_and_the_cap_holds(
    tmp_path_factory: pytest.TempPathFactory, cap: int, doings: list[tuple[bool, int]]
) -> None:
    cache = DiskCache.at(tmp_path_factory.mktemp("cache"), cap)
    put: set[int] = set()
    for is_put, key in doings:
        if is_put:
            cache.put(str(key), content(key))
            put.add(key)
            fits = HEAD + len(content(key)) <= cap
            assert cache.get(str(key)) == (content(key) if fits else None)
        else:
            assert cache.get(str(key)) in ((content(key), None) if key in put else (None,))
        assert taken(cache.folder) <= cap and not list(cache.folder.glob("*.part"))


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = DiskCache.at(tmp_path, 10 * (HEAD + 100))
    for key in "abcdefghij":
        cache.put(key, key.encode() * 100)
        os.utime(cache._path(key), (ord(key), ord(key)))  # coarse clocks could put two at one time
    assert cache.get("a") == b"a" * 100
    cache.put("k", b"k" * 100)
    assert [key for key in "abcdefghijk" if cache.get(key) is None] == [
        "b",
        "c",
    ]  # down to 90 percent, then the new one


def test_a_cache_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    cache = DiskCache.at(tmp_path / "new" / "folder", 0)
    cache.put("a", b"")
    assert cache.get("a") is None


@pytest.mark.parametrize("position", [0, 31, 32, 90])
def test_a_damaged_entry_is_dropped(tmp_path: Path, position: int) -> None:
    cache = DiskCache.at(tmp_path, 1000)
    cache.put("a", b"x" * 100)
    (entry,) = tmp_path.glob("*.range")
    damaged = bytearray(entry.read_bytes())
    damaged[position] ^= 4
    entry.write_bytes(damaged)
    assert cache.get("a") is None and not entry.exists()
    cache.put("a", b"x" * 100)
    assert cache.get("a") == b"x" * 100


def test_an_entry_under_another_name_is_not_taken(tmp_path: Path) -> None:
    cache = DiskCache.at(tmp_path, 1000)
    cache.put("a", b"x" * 100)
    cache._path("a").rename(cache._path("b"))
    assert cache.get("b") is None


@pytest.mark.parametrize("total", ["", "nonsense", "99999999"])
def test_a_wrong_total_is_counted_anew(tmp_path: Path, total: str) -> None:
    """What an entry that was dropped or never came took is still in `total`: it may be too large, never too small."""
    cache = DiskCache.at(tmp_path, 1000)
    cache.put("a", b"x" * 100)
    (tmp_path / "total").write_text(total)
    cache.put("b", b"y" * 100)
    assert cache.get("a") == b"x" * 100 and cache.get("b") == b"y" * 100
    assert int((tmp_path / "total").read_text()[:20]) == 2 * (HEAD + 100)


def fill(folder: Path, cap: int, seed: int, entries: int) -> bool:
    cache = DiskCache.at(folder, cap)
    good = True
    for turn in range(entries):
        key = (seed * 7 + turn * 13) % 40
        good &= cache.get(str(key)) in (None, content(key))
        cache.put(str(key), content(key))
        with cache._total():  # while nobody else puts or drops
            good &= taken(folder) <= cap
    return good


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        assert pool.starmap(fill, [(tmp_path, 4000, seed, 100) for seed in range(2)], chunksize=1) == [True] * 2
    assert 0 < taken(tmp_path) <= 4000 and not list(tmp_path.glob("*.part"))


def fill_for_ever(folder: Path) -> None:
    cache = DiskCache.at(folder, 2_000_000)
    for turn in range(10**9):
        cache.put(str(turn % 50), content(turn % 50) * 200)


def test_killed_at_any_moment_nothing_is_half_there(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("fork")
    left = 0
    for attempt in range(12):
        process = context.Process(target=fill_for_ever, args=(tmp_path,))
        process.start()
        time.sleep(0.1 + attempt * 0.0073)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        cache = DiskCache.at(tmp_path, 2_000_000)
        entries = {cache._path(str(key)): content(key) * 200 for key in range(50)}
        for path in tmp_path.glob("*.range"):
            assert path.read_bytes()[HEAD:] == entries[path]
        assert all(cache.get(str(key)) in (None, content(key) * 200) for key in range(50))
        assert taken(tmp_path) <= 2_000_000
        left = max(left, len(list(tmp_path.glob(".*.part"))))
    assert left  # it was killed while it wrote
    cache.put("again", b"z" * 1000)
    assert cache.get("again") == b"z" * 1000


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    cache = DiskCache.at(tmp_path, 1000)
    old, new = tmp_path / ".x.range.1.part", tmp_path / ".y.range.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    for key in range(10):
        cache.put(str(key), b"x" * 200)
    assert not old.exists() and new.exists()  # another process may be writing the new one


def test_a_full_disk_is_said_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache.at(tmp_path, 1000)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache.os, "fsync", full)
    with pytest.warns(UserWarning, match="cannot keep what was fetched .No space left on device."):
        cache.put("a", b"x")
    assert cache.get("a") is None and not list(tmp_path.glob(".*.part"))


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"\A[^\n]*file/cache: cannot keep a cache there[^\n]*\Z"):
        DiskCache.at(tmp_path / "file" / "cache", 1000)
    with pytest.raises(UserError, match="a cache of -1 bytes"):
        DiskCache.at(tmp_path, -1)


@given(st.lists(st.integers(0, 9), max_size=80), st.integers(0, 40))
def test_recent_keeps_the_most_recent_that_fit(keys: list[int], cap: int) -> None:
    recent, made, expected = Recent(cap), [], dict[int, None]()
    for key in keys:
        known = key in expected
        assert recent.get(key, lambda key=key: (made.append(key) or str(key), key + 1)) == str(key)  # type: ignore
        assert (made.pop() if made else None) == (None if known else key)
        expected.pop(key, None)
        if key + 1 <= cap:
            expected[key] = None
        while sum(each + 1 for each in expected) > cap:
            del expected[next(iter(expected))]
        assert recent.nbytes == sum(each + 1 for each in expected) <= cap


def test_recent_makes_again_what_failed() -> None:
    recent = Recent(10)

    def fail() -> Any:
        raise UserError("broken")

    with pytest.raises(UserError):
        recent.get("a", fail)
    assert recent.get("a", lambda: ("whole", 1)) == "whole"
