"""What a training budget buys: bits per byte of `vnc fit` and of nanochat's own training script at equal FLOPs.

    PYTHONPATH=. python benchmarks/learning.py --data DIR --tokenizer DIR --nanochat CHECKOUT
        [--depths 2 4 --flops 7e12 7e12] [--seeds 1 2 3] [--also 'split=--data.packing=bestfit_split']

For each depth and seed, `vnc fit` as it comes and nanochat's scripts/base_train.py as it comes train the same shape on
the same shards with the same tokenizer, batch and number of steps, so that their FLOPs are equal: for each token 6 for
each parameter of a matrix product, and 12 x width x window for attention in each layer; each model's own count is
compared. All else is each side's own: loader and packing, rates and schedule, initialisation, optimizer, dtype (fp32 is
nanochat's on a CPU).
`--also NAME=OPTIONS` adds a side that is `vnc fit` with options, `--same_rates` one that is nanochat's script with the
learning rates and weight decay of `vnc fit`.

Then one scorer measures each final model in fp32 on the same rows of the validation shard, made in two ways: by
bestfit_split, which holds every token of the text, and by nanochat's own loader, which crops. Differences are by seed,
with their 95% interval by Student's t. A finished run leaves a result.json and is not made again; other sizes than
those of depth and FLOPs, and other options under an old NAME, want another --out.

The script of nanochat knows one seed and reads shards in order: here the seed it sets is replaced, and the order of the
training shards is drawn by seed. It imports wandb and rustbpe, which must be installed (neither is used).
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import runpy
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.training import fit_command
from datamodules.parquet import read_shards
from datamodules.streaming import PackedWindows, first_rows
from datamodules.tokenized_text import TokenizedText
from datamodules.windows import TextWindows
from vnc.bits_per_byte import BitsPerByte
from vnc.checkpoint import load_model
from vnc.depth import REFERENCE_BATCH_TOKENS, REFERENCE_DECAY, TrainingPlan, make_plan
from vnc.rows import inputs_and_targets
from vnc.tokenizer import Tokenizer

SHARDS = "base_data_climbmix"  # where nanochat looks for shards in its base directory
PACKINGS = ("bestfit_split", "nanochat")
NANOCHAT = "nanochat"
SAME_RATES = "nanochat_same_rates"
Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Run:
    """One side's training at one depth with one seed."""

    side: str
    depth: int
    flops: float
    seed: int
    vnc_options: str
    """More options for `vnc fit`."""
    options: argparse.Namespace

    @property
    def folder(self) -> Path:
        return Path(self.options.out).resolve() / f"{self.side}_depth{self.depth}_{self.flops:g}_seed{self.seed}"

    @property
    def plan(self) -> TrainingPlan:
        o = self.options
        return make_plan(
            self.depth, aspect_ratio=o.aspect_ratio, head_dim=o.head_dim, sequence_len=o.sequence_len,
            window_pattern=o.window_pattern, vocab_size=Tokenizer.load(o.tokenizer).vocab_size,
            total_batch_tokens=o.batch_tokens, device_batch_size=o.rows, target_flops=self.flops,
        )  # fmt: skip

    def train(self) -> dict[str, Any]:
        """Its result: made now, or found."""
        found = self.folder / "result.json"
        if not found.is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            wall, processor = call(self.nanochat() if self.side.startswith(NANOCHAT) else self.vnc(), self.folder)
            call([*child("score", self.options), self.side, str(self.folder)], self.folder)
            result = json.loads((self.folder / "bits.json").read_text())
            plan = self.plan
            result |= {"seconds": wall, "processor_seconds": processor, "steps": plan.num_steps,
                       "tokens": plan.train_tokens, "flops": plan.total_flops}  # fmt: skip
            found.write_text(json.dumps(result, indent=1) + "\n")
        result = json.loads(found.read_text())
        said = ", ".join(f"{result[packing]:.4f} ({packing})" for packing in PACKINGS)
        print(f"depth {self.depth}, seed {self.seed}, {self.side}: {said}, {result['seconds']:.0f} s", flush=True)
        return dict(result)

    def vnc(self) -> list[str]:
        o = self.options
        more = [
            "--data", "FineWebEdu", f"--data.data_dir={o.data}", f"--data.tokenizer={o.tokenizer}",
            f"--data.seed={self.seed}", f"--data.val_tokens={o.batch_tokens}", f"--seed_everything={self.seed}",
            "--name=run", *shlex.split(self.vnc_options),
        ]  # fmt: skip
        return fit_command(o, self.folder, *more, depth=self.depth, aspect_ratio=o.aspect_ratio,
                           num_steps=self.plan.num_steps)  # fmt: skip

    def nanochat(self) -> list[str]:
        o, plan = self.options, self.plan
        lay_out(self.folder, o, self.seed)
        arguments = dict(
            depth=self.depth, aspect_ratio=o.aspect_ratio, head_dim=o.head_dim, max_seq_len=o.sequence_len,
            window_pattern=o.window_pattern, device_batch_size=o.rows, total_batch_size=o.batch_tokens,
            num_iterations=plan.num_steps, device_type="cpu", eval_every=-1, core_metric_every=-1, sample_every=-1,
            model_tag="run",
        )  # fmt: skip
        if self.side == SAME_RATES:
            arguments |= rates_for_nanochat(plan)
        return [*child("base_train", o), str(self.seed),
                *(f"--{key.replace('_', '-')}={value}" for key, value in arguments.items())]  # fmt: skip


def child(role: str, options: argparse.Namespace) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "--child", role, str(Path(options.nanochat).resolve())]


def call(command: list[str], folder: Path) -> tuple[float, float]:
    """Run it on one thread; (seconds, processor seconds). SystemExit with the end of its output where it fails."""
    home = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "NANOCHAT_BASE_DIR": str(folder), "NANOCHAT_DTYPE": "float32",
        "PYTHONPATH": os.pathsep.join((home, os.environ.get("PYTHONPATH", ""))),
    }  # fmt: skip
    began = time.perf_counter()
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)}\nended with {process.returncode}:\n"
                         f"{(folder / 'log').read_text()[-3000:]}")  # fmt: skip
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


# nanochat's side.


def rates_for_nanochat(plan: TrainingPlan) -> dict[str, float]:
    """Options of nanochat's script that give its groups the plan's rates and decay. It multiplies them by scales of its
    own, so these are divided by them: the root of the batch, and that of the width. It halves the rate of
    embeddings for value embeddings, and takes a hundredth of the scalars' for the residual ones, as the plan
    does. The smear gate keeps its 0.2."""
    batch = (plan.total_batch_tokens / REFERENCE_BATCH_TOKENS) ** 0.5
    lr = {name: group.lr / batch for name, group in plan.groups.items()}
    return {
        "matrix_lr": lr["matrices"], "embedding_lr": lr["embedding"] / plan.dmodel_lr_scale,
        "unembedding_lr": lr["head"] / plan.dmodel_lr_scale, "scalar_lr": lr["x0"],
        "weight_decay": REFERENCE_DECAY * batch / plan.batch_lr_scale,
    }  # fmt: skip


def lay_out(base: Path, options: argparse.Namespace, seed: int) -> None:
    """Make `base` a base directory of nanochat: shards, of which the last by name is validation, and tokenizer."""
    *training, validation = sorted(Path(options.data).resolve().glob("*.parquet"))
    random.Random(seed).shuffle(training)
    for folder in ("tokenizer", SHARDS):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for i, shard in enumerate([*training, validation]):
        link = base / SHARDS / f"shard_{i:05d}.parquet"
        link.unlink(missing_ok=True)
        link.symlink_to(shard)
    tokenizer = Tokenizer.load(options.tokenizer)
    (base / "tokenizer" / "tokenizer.pkl").write_bytes(pickle.dumps(tokenizer._encoding))
    torch.save(torch.from_numpy(tokenizer.token_bytes), base / "tokenizer" / "token_bytes.pt")


def base_train(seed: int, arguments: list[str]) -> None:
    """nanochat's script, with another seed than its own."""
    from nanochat import common  # type: ignore[import-not-found]

    begin = common.compute_init

    def compute_init(*given: Any) -> Any:
        begun = begin(*given)
        torch.manual_seed(seed)
        return begun

    common.compute_init = compute_init
    sys.argv = ["base_train", *arguments]
    runpy.run_module("scripts.base_train", run_name="__main__")


def nanochat_rows(checkout: str, base: Path, options: argparse.Namespace) -> torch.Tensor:
    """(rows, sequence_len + 1) of the validation shard as nanochat's loader makes them."""
    os.environ["NANOCHAT_BASE_DIR"] = str(base)
    sys.path.insert(0, checkout)
    from nanochat.dataloader import tokenizing_distributed_data_loader_bos_bestfit  # type: ignore[import-not-found]
    from nanochat.tokenizer import get_tokenizer  # type: ignore[import-not-found]

    count = options.val_tokens // options.sequence_len
    loader = tokenizing_distributed_data_loader_bos_bestfit(
        get_tokenizer(), count, options.sequence_len, split="val", device="cpu"
    )
    inputs, targets = next(loader)
    return torch.cat([inputs, targets[:, -1:]], dim=1)


def nanochat_losses(folder: Path) -> tuple[Losses, int]:
    """(losses of each target in nats, FLOPs per token by its own count) of the model that the run left."""
    from nanochat.gpt import GPT, GPTConfig  # type: ignore[import-not-found]

    weights = max((folder / "base_checkpoints" / "run").glob("model_*.pt"))
    meta = json.loads(weights.with_name(weights.name.replace("model_", "meta_")).with_suffix(".json").read_text())
    with torch.device("meta"):
        model = GPT(GPTConfig(**meta["model_config"]))
    model.to_empty(device="cpu")
    model.init_weights()  # its rotary tables are in no checkpoint
    model.load_state_dict(torch.load(weights, map_location="cpu"), strict=True, assign=True)
    model.eval()

    def losses(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(inputs, targets, loss_reduction="none")
        return found.view(targets.shape)

    return losses, model.estimate_flops()


# Scores.


def split_rows(options: argparse.Namespace) -> torch.Tensor:
    """(rows, sequence_len + 1) of the validation shard as `vnc fit` makes them."""
    _, validation = read_shards(options.data)
    tokenizer = Tokenizer.load(options.tokenizer)
    texts = TokenizedText(TextWindows.of("validation", [validation], 1), tokenizer)
    windows = PackedWindows(texts, "bestfit_split", options.sequence_len + 1, tokenizer.bos_id)
    return torch.from_numpy(first_rows(windows, options.val_tokens // options.sequence_len))


def score(side: str, folder: Path) -> None:
    """Write bits.json: bits per byte of a run's model on each packing's rows, and its FLOPs per token."""
    if side.startswith(NANOCHAT):
        losses, flops = nanochat_losses(folder)
    else:
        gpt = load_model(folder / "run", compute_dtype=torch.float32).gpt
        losses, flops = gpt.token_losses, make_flops(folder / "run")
    token_bytes = torch.from_numpy(np.load(folder.parent / "token_bytes.npy"))
    result: dict[str, float] = {"flops_per_token": flops}
    with torch.inference_mode():
        for packing in PACKINGS:
            bits = BitsPerByte(token_bytes)
            rows = torch.from_numpy(np.load(folder.parent / f"rows_{packing}.npy"))
            for first in range(0, len(rows), 8):
                inputs, targets = inputs_and_targets(rows[first : first + 8])
                bits.update(losses(inputs, targets), targets)
            result[packing] = float(bits.compute())
    (folder / "bits.json").write_text(json.dumps(result))


def make_flops(run: Path) -> int:
    plan = json.loads((run / "checkpoints" / "last" / "plan.json").read_text())
    return TrainingPlan.from_dict(plan, str(run)).flops_per_token


def difference(mine: list[float], theirs: list[float]) -> str:
    """The mean of mine - theirs by seed, and its 95% interval by Student's t."""
    each = [a - b for a, b in zip(mine, theirs, strict=True)]
    mean = statistics.mean(each)
    if len(each) < 2:
        return f"{mean:+.4f}"
    reach = float(stats.t.ppf(0.975, len(each) - 1)) * statistics.stdev(each) / len(each) ** 0.5
    return f"{mean:+.4f} [{mean - reach:+.4f}, {mean + reach:+.4f}]"


def table(results: dict[tuple[str, int, int], dict[str, Any]], sides: list[str], options: argparse.Namespace) -> None:
    print("\n| depth, FLOPs, tokens | side | " + " | ".join(f"{packing} rows: each seed | mean | - {NANOCHAT}"
          for packing in PACKINGS) + " | seconds | processor seconds |")  # fmt: skip
    print("|" + "---|" * (4 + 3 * len(PACKINGS)))
    for depth in options.depths:
        found = {side: [results[side, depth, seed] for seed in options.seeds] for side in sides}
        if len({result["flops_per_token"] for side in sides for result in found[side]}) != 1:
            raise SystemExit(f"depth {depth}: the sides differ in FLOPs per token: {found}")
        for side in sides:
            first, cells = found[side][0], []
            for packing in PACKINGS:
                mine, theirs = ([result[packing] for result in found[who]] for who in (side, NANOCHAT))
                cells += [", ".join(f"{bits:.4f}" for bits in mine), f"{statistics.mean(mine):.4f}",
                          difference(mine, theirs) if side != NANOCHAT else ""]  # fmt: skip
            for key in ("seconds", "processor_seconds"):
                cells.append(f"{statistics.mean(result[key] for result in found[side]):.0f}")
            sizes = f"{depth}, {first['flops']:.2g}, {first['tokens'] / 1e6:.1f}M"
            print(f"| {sizes} | {side} | " + " | ".join(cells) + " |")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        role, checkout, *rest = sys.argv[2:]
        sys.path.insert(0, checkout)
        return base_train(int(rest[0]), rest[1:]) if role == "base_train" else score(rest[0], Path(rest[1]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of Parquet shards; the last by name is validation")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--nanochat", required=True, help="checkout of nanochat")
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--flops", type=float, nargs="+", default=[7e12, 7e12], help="for each depth")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--aspect_ratio", type=int, default=24, help="width for each layer, rounded up to whole heads")
    parser.add_argument("--head_dim", type=int, default=32)
    parser.add_argument("--sequence_len", type=int, default=512)
    parser.add_argument("--window_pattern", default="L")
    parser.add_argument("--rows", type=int, default=8, help="of a micro-batch")
    parser.add_argument("--batch_tokens", type=int, default=4_096, help="of a step")
    parser.add_argument("--val_tokens", type=int, default=2**17, help="that each model is scored on")
    parser.add_argument("--same_rates", action="store_true", help="one more side: nanochat's script with vnc's rates")
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=OPTIONS", help="more sides: vnc fit with them")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each on one thread")
    parser.add_argument("--out", default="runs/learning", help="folder of the runs")
    options = parser.parse_args()
    if len(options.flops) != len(options.depths):
        parser.error("--flops: one for each of --depths")
    sides = {"vnc": "", NANOCHAT: ""} | ({SAME_RATES: ""} if options.same_rates else {})
    sides |= dict(side.split("=", 1) for side in options.also)
    out = Path(options.out).resolve()
    lay_out(out, options, seed=0)
    np.save(out / "token_bytes.npy", Tokenizer.load(options.tokenizer).token_bytes)
    np.save(out / "rows_bestfit_split.npy", split_rows(options).numpy())
    np.save(out / "rows_nanochat.npy", nanochat_rows(options.nanochat, out, options).numpy())
    runs = [
        Run(side, depth, flops, seed, sides[side], options)
        for seed in options.seeds
        for depth, flops in zip(options.depths, options.flops, strict=True)
        for side in sides
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(Run.train, runs))
    table({(r.side, r.depth, r.seed): result for r, result in zip(runs, results, strict=True)}, list(sides), options)
    return None


if __name__ == "__main__":
    main()
