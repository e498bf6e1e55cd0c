"""Processes that publish a checkpoint together succeed or fail as one, and none waits for ever."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from vnc import checkpoint as files
from vnc.processes import OtherRankError, Processes


def publish(rank: int, port: int, folder: str) -> None:
    """Two ranks: a good checkpoint, one that fails on rank 1, one in whose middle rank 1 dies."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=20))
    processes = Processes(rank, 2, dist.group.WORLD)
    place = Path(folder)
    assert processes.agree(f"of rank {rank}") == "of rank 0"
    files.publish(place / "good", lambda partial: (partial / str(rank)).write_text("x") and None, processes)

    def fail(partial: Path) -> None:
        if rank == 1:
            raise OSError(28, "No space left on device")

    with pytest.raises(OtherRankError if rank == 0 else OSError, match="No space left"):
        files.publish(place / "failed", fail, processes)
    processes.agree(None)  # rank 0 has cleaned up

    def die(partial: Path) -> None:
        if rank == 1:
            os._exit(7)

    before = time.monotonic()
    with pytest.raises(RuntimeError):
        files.publish(place / "killed", die, processes)
    assert time.monotonic() - before < 20
    (place / "told").touch()


def test_publishing_together(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    ranks = [context.Process(target=publish, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "told"]
    assert sorted(path.name for path in (tmp_path / "good").iterdir()) == ["0", "1"]


def test_one_process_needs_nobody(tmp_path):
    assert Processes().agree(3) == 3
    with pytest.raises(OSError, match="full"):
        files.publish(tmp_path / "x", lambda partial: (_ for _ in ()).throw(OSError("full")))
    assert list(tmp_path.iterdir()) == []
