"""What packing one window costs, and what it crops or repeats, by the size of the window: a row must not cost more in a
large one.

    python benchmarks/packing_cost.py --data DIR [--tokenizer gpt2] [--documents 128 250 1000] [--lengths 512 2048]
"""

from __future__ import annotations

import argparse
import time

from datamodules.packing import PLANS, Packing, pack
from datamodules.parquet import read_shards, read_texts
from datamodules.tokenized_text import tokenize
from vnc.tokenizer import Tokenizer

REPEATS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of Parquet shards")
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--documents", type=int, nargs="+", default=[128, 250, 1000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.tokenizer)
    shard = read_shards(options.data)[0][0]
    texts = [text for group in range(len(shard.row_groups)) for text in read_texts(shard, group)]
    packings: list[Packing] = [*PLANS, "concat"]
    print("| documents | sequence | packing | M cells/s (best of 9) | us a row | cropped | repeated | padded |")
    print("|---|---|---|---|---|---|---|---|")
    for count in options.documents:
        if count > len(texts):
            raise SystemExit(f"{shard}: {len(texts)} documents, fewer than {count}")
        window = tokenize(texts[:count], tokenizer)
        for sequence_len in options.lengths:
            for packing in packings:
                seconds = []
                for _ in range(REPEATS):
                    began = time.perf_counter()
                    _, report = pack(window, sequence_len + 1, tokenizer.bos_id, packing)
                    seconds.append(time.perf_counter() - began)
                shares = report.shares()
                print(f"| {count} | {sequence_len} | {packing} | {report.cells / min(seconds) / 1e6:.0f} | "
                      f"{min(seconds) / report.rows * 1e6:.1f} | {shares['cropped']:.2%} | {shares['repeated']:.2%} | "
                      f"{shares['padded']:.2%} |")  # fmt: skip


if __name__ == "__main__":
    main()
