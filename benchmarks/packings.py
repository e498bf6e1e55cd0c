"""Which packing trains best for the same number of tokens: validation bits per byte of each, on real text.

    python benchmarks/packings.py --data DIR --tokenizer DIR/tokenizer [--steps 160] [--seeds 1 2]

Trains the same depth-4 model (heads of 64, sequence 512, 16,384 tokens a step) on each packing and seed; the seed sets
weights and order of data. Each model is then measured on the same validation text, packed in each of the three ways,
since a model may be best at what it was trained on: split and concat hold every token of the text, crop only what a row
has room for.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from datamodules.packing import Packing
from datamodules.parquet import read_shards
from datamodules.streaming import PackedWindows, first_rows
from datamodules.tokenized_text import TokenizedText
from datamodules.windows import TextWindows
from vnc.bits_per_byte import BitsPerByte
from vnc.checkpoint import load_model
from vnc.rows import inputs_and_targets

PACKINGS: tuple[Packing, ...] = ("bestfit_split", "bestfit_crop", "concat")
SEQUENCE_LEN = 512


def train(packing: Packing, seed: int, options: argparse.Namespace) -> Path:
    name = f"{packing}_{seed}"
    subprocess.run(
        [
            sys.executable, "-m", "cli", "fit", "--data", "FineWebEdu", "--data.data_dir", options.data,
            "--data.tokenizer", options.tokenizer, "--data.packing", packing, "--data.seed", str(seed),
            "--data.val_tokens", "65536", "--seed_everything", str(seed), "--model.depth", "4",
            "--model.head_dim", "64", "--model.sequence_len", str(SEQUENCE_LEN), "--model.window_pattern", "L",
            "--model.device_batch_size", "8", "--model.total_batch_tokens", "16384",
            "--model.num_steps", str(options.steps), "--model.compile", "off",
            "--trainer.val_check_interval", str(options.steps), "--samples.every_n_steps", "0",
            "--checkpoint.every_n_steps", str(options.steps), "--runs_dir", options.runs, "--name", name,
            "--resume", "true",
        ],
        check=True,
    )  # fmt: skip
    return Path(options.runs) / name / "checkpoints" / "last"


def bits_per_byte(checkpoint: Path, packing: Packing, options: argparse.Namespace) -> float:
    loaded = load_model(checkpoint)
    _, validation = read_shards(options.data)
    texts = TextWindows.of("validation", [validation], 1)
    tokenizer = loaded.tokenizer
    windows = PackedWindows(TokenizedText(texts, tokenizer), packing, SEQUENCE_LEN + 1, tokenizer.bos_id)
    rows = torch.from_numpy(first_rows(windows, options.val_tokens // SEQUENCE_LEN))
    bits = BitsPerByte(torch.from_numpy(tokenizer.token_bytes))
    with torch.inference_mode():
        for batch in rows.split(8):
            inputs, targets = inputs_and_targets(batch)
            bits.update(loaded.gpt.token_losses(inputs, targets), targets)
    return float(bits.compute())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of Parquet shards")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--val_tokens", type=int, default=2**18)
    parser.add_argument("--runs", default="runs/packings")
    options = parser.parse_args()
    checkpoints = {(p, seed): train(p, seed, options) for seed in options.seeds for p in PACKINGS}
    print("\nbits per byte on validation text packed by\n")
    print("| trained with | " + " | ".join(PACKINGS) + " |\n|---|" + "---|" * len(PACKINGS))
    for packing in PACKINGS:
        cells = []
        for validation in PACKINGS:
            found = [bits_per_byte(checkpoints[packing, seed], validation, options) for seed in options.seeds]
            cells.append(f"{statistics.mean(found):.4f} ({', '.join(f'{value:.4f}' for value in found)})")
        print(f"| {packing} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
