"""DistMuon in figures: what a rank holds, what it sends, what overlapping saves, what its share of the update takes.

    python benchmarks/dist_muon.py [--depth 4] [--ranks 1 2 4 8] [--tables memory traffic overlap update]

Starts the ranks itself (CPU, gloo on the loopback interface, one thread each) and feeds them random token ids: only
sizes and times are looked at. docs/dist_muon.md explains the tables and gives those of one machine.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vnc.config import GPTConfig
from vnc.depth import TrainingPlan, make_plan
from vnc.flops import count_parameters
from vnc.gpt import GPT
from vnc.optimizer import MuonAdamW
from vnc.reducer import storage_bytes
from vnc.shards import MatrixShard
from vnc.wire import Wire

VOCAB, SEQUENCE, ROWS, MICRO_BATCHES = 4096, 128, 2, 2  # of one rank; its micro-batch has ROWS rows


# One training step, as vnc/module.py takes it.


def build(wire: Wire, depth: int, gather_dtype: torch.dtype = torch.float32, **options: bool) -> Any:
    """A model of `depth` on this rank, in the hands of its optimizer, which gets `model` and `plan` for us to use."""
    plan = planned(depth, wire.world_size)
    gpt = GPT(plan.config, gather_dtype)
    gpt.init_weights(torch.Generator().manual_seed(0))
    optimizer: Any = MuonAdamW(gpt, plan, wire, gather_dtype=gather_dtype, **options)
    optimizer.model, optimizer.plan = gpt, plan
    torch.manual_seed(wire.rank)
    return optimizer


def planned(depth: int, world_size: int) -> TrainingPlan:
    return make_plan(depth, vocab_size=VOCAB, sequence_len=SEQUENCE, head_dim=64, num_steps=100,
                     total_batch_tokens=ROWS * MICRO_BATCHES * SEQUENCE * world_size, device_batch_size=ROWS,
                     world_size=world_size)  # fmt: skip


def backward(optimizer: Any, last: bool) -> None:
    """One micro-batch; what backward has not sent, the reducer's `flush` has still to send."""
    ids = torch.randint(0, VOCAB, (ROWS, SEQUENCE + 1))
    optimizer.reducer.begin(last=last)
    (optimizer.model.summed_loss(ids[:, :-1], ids[:, 1:]) / optimizer.plan.total_batch_tokens).backward()


def update(optimizer: Any) -> None:
    optimizer.finish_gradients()
    optimizer.set_schedule(optimizer.plan, optimizer.step_count)
    optimizer.step()
    optimizer.zero_grad()
    optimizer.wait_for_weights()


def train_step(optimizer: Any, micro_batches: int = MICRO_BATCHES) -> None:
    for left in reversed(range(micro_batches)):
        backward(optimizer, last=left == 0)
        optimizer.reducer.flush()
    update(optimizer)


# Ranks.


def spawn(world: int, measure: Callable[..., Any], *arguments: Any) -> Any:
    """measure(wire, *arguments) on `world` new processes; what rank 0 returns."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = mp.get_context("spawn").SimpleQueue()
    mp.spawn(rank_main, (world, port, answers, measure, arguments), world)
    return answers.get()


def rank_main(rank: int, world: int, port: int, answers: Any, measure: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    answer = measure(Wire(rank, world), *arguments)
    if rank == 0:
        answers.put(answer)
    dist.barrier()
    dist.destroy_process_group()


# a) Bytes held.


def held(wire: Wire, depth: int, every: bool, gather_dtype: torch.dtype) -> dict[str, int]:
    """Storages of rank 0: gradients between two micro-batches, the most at once, optimizer state, weights."""
    optimizer = build(wire, depth, gather_dtype, reduce_every_micro_batch=every)
    backward(optimizer, last=False)
    optimizer.reducer.flush()
    optimizer.reducer.finish()
    between = optimizer.held_bytes()["gradients"]
    backward(optimizer, last=True)
    update(optimizer)
    weights = [tensor for b in optimizer.reducer.buckets for tensor in (b.weights, b.owned_weights)]
    return optimizer.held_bytes() | {"gradients": between, "weights": storage_bytes(weights)}


def memory_table(depth: int, ranks: list[int]) -> None:
    print(f"\na) MB held by one rank, depth {depth}: gradients between micro-batches, optimizer state, both as a share")
    print("   of what one process holds (and 1/N + 3%), the most gradients at once, weights")
    row("summed", "gather", "ranks", "gradients", "state", "share", "1/N + 3%", "peak", "weights")
    for every, dtype in ((True, torch.float32), (False, torch.float32), (True, torch.bfloat16)):
        alone = 0
        for world in [1, *(n for n in ranks if n > 1)]:
            found = spawn(world, held, depth, every, dtype)
            both = found["gradients"] + found["optimizer_state"]
            alone = alone or both
            sizes = [mb(found[key]) for key in ("gradients", "optimizer_state", "peak_gradients", "weights")]
            shares = f"{both / alone:.2%}", f"{1 / world + 0.03:.2%}"
            row(MODES[every], f"{8 * dtype.itemsize} bits", world, *sizes[:2], *shares, *sizes[2:])


# b) Bytes sent.


def expected_bytes(config: GPTConfig, world: int, reductions: int, ordered: bool, gather_bytes: int) -> int:
    """What one rank sends in one step: gradients are summed `reductions` times, weights gathered once in numbers of
    `gather_bytes` bytes. Modern preset."""
    square, mlp, rows = 4 * config.n_layer, 2 * config.n_layer, config.padded_vocab_size
    counts = count_parameters(config)
    dealt = (up_to(square, math.lcm(4, world)) + 4 * up_to(mlp, math.lcm(2, world))) * config.n_embd**2
    dealt += up_to(rows, world) * (counts.wte + counts.lm_head + counts.value_embeds) // rows
    tiny = counts.scalars + counts.transformer_matrices - 12 * config.n_layer * config.n_embd**2  # and the value gates
    share = (world - 1) / world
    of_gradients = share * 4 * dealt + (share * 4 * tiny * world if ordered else 2 * share * 4 * tiny)
    return round(reductions * of_gradients + share * gather_bytes * dealt)


def up_to(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def loopback_bytes() -> int:
    """Sent over the loopback interface by all processes since the machine has started."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    fields = next(line for line in lines if line.strip().startswith("lo:")).partition(":")[2].split()
    return int(fields[8])


def sent(wire: Wire, depth: int, every: bool, ordered: bool, gather_dtype: torch.dtype) -> tuple[int, int]:
    """(counted, carried) bytes of one step and one rank. Others' traffic can only add: the least of five steps."""
    optimizer = build(wire, depth, gather_dtype, reduce_every_micro_batch=every, ordered=ordered)
    carried = []
    for _ in range(5):
        wire.sent.clear()
        dist.barrier()
        before = loopback_bytes()
        dist.barrier()
        train_step(optimizer)
        dist.barrier()
        carried.append(loopback_bytes() - before)
        dist.barrier()
    return sum(wire.sent.values()), min(carried) // wire.world_size


def traffic_table(depth: int, ranks: list[int]) -> None:
    print(f"\nb) MB sent by one rank in one step, depth {depth}, {MICRO_BATCHES} micro-batches: by the formula, as")
    print("   counted, and as the loopback interface carried them, with headers, acknowledgements and barriers")
    row("summed", "order", "gather", "ranks", "formula", "counted", "carried", "ratio")
    modes = [(every, ordered, torch.float32) for every in (True, False) for ordered in (True, False)]
    for every, ordered, dtype in [*modes, (True, True, torch.bfloat16), (False, True, torch.bfloat16)]:
        for world in [n for n in ranks if n > 1]:
            config = planned(depth, world).config
            formula = expected_bytes(config, world, MICRO_BATCHES if every else 1, ordered, dtype.itemsize)
            counted, carried = spawn(world, sent, depth, every, ordered, dtype)
            row(MODES[every], "fixed" if ordered else "free", f"{8 * dtype.itemsize} bits", world, mb(formula),
                mb(counted), mb(carried), f"{carried / counted:.3f}")  # fmt: skip


# c) Overlap.


def overlapped(wire: Wire, depth: int, repeats: int) -> dict[str, Any]:
    """Shares of the bytes that were launched before backward ended; seconds of a step with and without, in turn."""
    optimizer = build(wire, depth)
    matrices = {bucket for shard in optimizer.shards if isinstance(shard, MatrixShard) for bucket in shard.buckets}
    reducer = optimizer.reducer
    backward(optimizer, last=True)
    launched = reducer.buckets[: reducer.next]  # in the order of launching
    update(optimizer)
    shares = {
        name: sum(b.weights.nbytes for b in launched if b in kind) / sum(b.weights.nbytes for b in kind)
        for name, kind in (("matrices", matrices), ("all", set(reducer.buckets)))
    }
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats + 1):
        for overlap in seconds:
            reducer.overlap = overlap
            dist.barrier()
            start = time.perf_counter()
            train_step(optimizer, micro_batches=1)
            seconds[overlap].append(time.perf_counter() - start)
    return {"shares": shares, "seconds": {overlap: times[1:] for overlap, times in seconds.items()}}


def overlap_table(depth: int, ranks: list[int], repeats: int) -> None:
    print(f"\nc) Bytes whose sum was launched before backward ended; ms of a step with and without, depth {depth}:")
    print(f"   median (and quartiles) of {repeats}, in turn")
    row("ranks", "matrices", "all", "overlapped", "after backward", width=24)
    for world in [n for n in ranks if n > 1]:
        found = spawn(world, overlapped, depth, repeats)
        row(world, *(f"{share:.1%}" for share in found["shares"].values()), *map(spread, found["seconds"].values()),
            width=24)  # fmt: skip


# d) The update.


def updated(wire: Wire, depth: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of the processor for the owned update alone, and of the clock for the step with its gathering."""
    optimizer = build(wire, depth)
    train_step(optimizer)
    alone, whole = [], []
    for _ in range(repeats):
        backward(optimizer, last=True)
        optimizer.finish_gradients()
        start = time.thread_time()
        with torch.no_grad():
            for shard in optimizer.shards:
                shard.update(optimizer.step_count)
        alone.append(time.thread_time() - start)
        dist.barrier()
        start = time.perf_counter()
        optimizer.step()
        optimizer.wait_for_weights()
        whole.append(time.perf_counter() - start)
        optimizer.zero_grad()
    return alone, whole


def update_table(depth: int, ranks: list[int], repeats: int) -> None:
    print(f"\nd) ms of the optimizer's step on rank 0, depth {depth}, median (and quartiles) of {repeats}: processor")
    print("   time of updating what the rank owns, by one thread; time by the clock, with the gathering of the rest")
    row("ranks", "processor", "clock", width=24)
    for world in ranks:
        row(world, *map(spread, spawn(world, updated, depth, repeats)), width=24)


# Printing.

MODES = {True: "each m.-b.", False: "once a step"}


def row(*cells: object, width: int = 12) -> None:
    print("".join(f"{cell!s:>{width}}" for cell in cells))


def mb(count: int) -> str:
    return f"{count / 1e6:.3f}"


def spread(seconds: list[float]) -> str:
    low, middle, high = (1e3 * value for value in statistics.quantiles(seconds, n=4, method="inclusive"))
    return f"{middle:.0f} ({low:.0f}-{high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=4, help="layers; the width is 64 times that")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    tables = ("memory", "traffic", "overlap", "update")
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--repeats", type=int, default=15, help="of each timing")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if "memory" in options.tables:
        memory_table(options.depth, options.ranks)
    if "traffic" in options.tables:
        traffic_table(options.depth, options.ranks)
    if "overlap" in options.tables:
        overlap_table(options.depth, options.ranks, options.repeats)
    if "update" in options.tables:
        update_table(options.depth, options.ranks, options.repeats)


if __name__ == "__main__":
    main()
