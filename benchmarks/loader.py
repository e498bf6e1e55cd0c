"""Tokens per second of the loader alone: from the token cache, on the fly, and beside nanochat's if it is there.

    python benchmarks/loader.py --data DIR [--tokenizer gpt2] [--lengths 512 2048] [--nanochat CHECKOUT] [--repeats 3]

What counts are the tokens of rows as training receives them (rows x sequence_len), for --seconds after the first batch,
which is timed by itself. nanochat's loader runs with its own defaults (4 tokenizer threads, a buffer of 1,000
documents), our vocabulary, and batches of the same rows.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from datamodules import FineWebEdu
from vnc.depth import make_plan
from vnc.tokenizer import Tokenizer

ROWS = 32


def ours(data: str, tokenizer: str, sequence_len: int, cached: bool, packing: Any = "bestfit_split") -> Iterator[int]:
    """Tokens of each batch."""
    module = FineWebEdu(data, tokenizer, packing, token_cache=cached)
    module.prepare_data()
    module.setup("fit")
    plan = make_plan(4, sequence_len=sequence_len, total_batch_tokens=ROWS * sequence_len, num_steps=10**6,
                     vocab_size=module.tokenizer.vocab_size)  # fmt: skip
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(plan=plan), strategy=strategy, world_size=1, global_rank=0, num_devices=1,
        global_step=0,
    )  # fmt: skip
    for batch in module.train_dataloader():
        yield batch.rows.shape[0] * batch.rows.shape[1] * sequence_len
        if batch.shares is not None:
            shares.update(batch.shares)


shares: dict[str, float] = {}


def nanochats(checkout: str, data: str, tokenizer: str, sequence_len: int) -> Iterator[int]:
    sys.path.insert(0, checkout)
    from nanochat import dataloader  # type: ignore[import-not-found]

    paths = sorted(map(str, Path(data).glob("*.parquet")))
    dataloader.list_parquet_files = lambda **_: paths
    encoding = Tokenizer.load(tokenizer)

    class Encoder:
        def get_bos_token_id(self) -> int:
            return encoding.bos_id

        def encode(self, texts: list[str], prepend: int, num_threads: int) -> list[list[int]]:
            return [[prepend, *ids] for ids in encoding._encoding.encode_ordinary_batch(texts, num_threads=num_threads)]

    for inputs, _ in dataloader.tokenizing_distributed_data_loader_bos_bestfit(
        Encoder(), ROWS, sequence_len, "train", device="cpu"
    ):
        yield inputs.numel()


def measure(batches: Iterator[int], seconds: float) -> tuple[float, float]:
    """(tokens per second after the first batch, seconds until the first)."""
    began = time.perf_counter()
    next(batches)
    first = time.perf_counter()
    tokens = 0
    while (now := time.perf_counter()) - first < seconds:
        tokens += next(batches)
    return tokens / (now - first), first - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of Parquet shards")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--nanochat", help="checkout of nanochat, to run its loader as well")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # (who, sequence length): one measurement
    options = parser.parse_args()
    if options.one:
        who, length = options.one[0], int(options.one[1])
        batches = (
            nanochats(options.nanochat, options.data, options.tokenizer, length)
            if who == "nanochat"
            else ours(options.data, options.tokenizer, length, *CASES[who])
        )
        rate, first = measure(batches, options.seconds)
        print(rate, first, shares.get("cropped", float("nan")), shares.get("repeated", float("nan")))
        return
    print("| sequence | loader | M tokens/s: median (all) | first batch after, s | cropped | repeated |")
    print("|---|---|---|---|---|---|")
    for length in options.lengths:
        results: dict[str, list[list[float]]] = {}
        for _ in range(options.repeats):  # in turn, each in a process of its own
            for who in [*CASES, *(["nanochat"] if options.nanochat else [])]:
                command = [sys.executable, *sys.argv, "--one", who, str(length)]
                line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                results.setdefault(who, []).append([float(value) for value in line.split()])
        for who, runs in results.items():
            rates = [run[0] / 1e6 for run in runs]
            each, first = ", ".join(f"{rate:.2f}" for rate in rates), statistics.median(run[1] for run in runs)
            print(f"| {length} | {who} | {statistics.median(rates):.2f} ({each}) | {first:.2f} | "
                  f"{100 * runs[0][2]:.2f}% | {100 * runs[0][3]:.2f}% |", flush=True)  # fmt: skip


CASES: dict[str, tuple[Any, ...]] = {
    "cache, bestfit_split": (True,),
    "cache, bestfit_crop": (True, "bestfit_crop"),
    "cache, concat": (True, "concat"),
    "on the fly, bestfit_split": (False,),
    "on the fly, bestfit_crop": (False, "bestfit_crop"),
}

if __name__ == "__main__":
    main()
