"""Freed memory is used again: large temporaries cost no page faults once the allocator has been told."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import vnc.memory
from vnc.memory import keep_freed_memory

ROOT = Path(__file__).parents[2]
GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"

# Ten times four tensors of 8 MB, each 2,048 pages of 4 KiB. The objects are there before and stay, so that only their
# numbers are allocated: a small block of anything else behind them would keep the heap from being given back.
COUNT = """
import resource, sys
import torch
from vnc.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
storages = [torch.empty(0).untyped_storage() for _ in range(4)]
def work():
    for _ in range(10):
        for storage in storages:
            storage.resize_(8 * 2**20)
            storage.fill_(1)
        for storage in storages:
            storage.resize_(0)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    # Neither a setting of glibc's nor another allocator may decide this.
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", COUNT, how], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told to keep freed memory")
def test_large_temporaries_cost_no_page_faults() -> None:
    kept, given_back = faults("keep"), faults("as it is")
    if given_back < 1_000:
        pytest.skip(f"{given_back} page faults in 320 MB: this system's pages are larger, nothing can be seen here")
    assert kept < given_back / 100


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told to keep freed memory")
def test_glibc_takes_the_settings() -> None:
    code = "from vnc.memory import keep_freed_memory; assert keep_freed_memory(); assert keep_freed_memory()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def __init__(self, name: object) -> None: ...

    monkeypatch.setattr(vnc.memory.ctypes, "CDLL", Without)  # a C library that has no mallopt
    assert keep_freed_memory() is False

    def refuse(name: object) -> None:
        raise AssertionError("no library is opened on another system")

    monkeypatch.setattr(vnc.memory.ctypes, "CDLL", refuse)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
