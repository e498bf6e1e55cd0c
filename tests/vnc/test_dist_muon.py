"""MuonAdamW on several real processes (gloo on loopback), against a plain loop that keeps everything in one place."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from vnc.depth import make_plan
from vnc.gpt import GPT
from vnc.muon import adamw_update, muon_update, variance_shape
from vnc.optimizer import MuonAdamW, param_groups
from vnc.rows import inputs_and_targets
from vnc.shards import ADAM_EPS
from vnc.wire import Wire

mp.get_context("forkserver").set_forkserver_preload(["vnc.launcher"])  # torch is imported once
STEPS, ATOMS, VOCAB = 3, 8, 100  # ATOMS: micro-batches of a step over all ranks, two rows each
CLIP = 0.05
MISSING = "value_embeds.2.weight"  # gets no gradient from odd micro-batches in one of the scenarios

SCENARIOS: dict[str, dict] = {
    "default": {},
    "once": {"reduce_every_micro_batch": False},
    "unordered": {"ordered": False},
    "once_unordered": {"ordered": False, "reduce_every_micro_batch": False},
    "after": {"overlap": False},
    "bf16": {"gather_dtype": torch.bfloat16},
    "missing": {},
    "clipped": {},
}


def new_gpt(scenario: str, preset: str = "modern"):
    plan = make_plan(3, preset=preset, vocab_size=VOCAB, sequence_len=16, aspect_ratio=32, head_dim=16,
                     total_batch_tokens=16 * 2 * ATOMS, num_steps=50)  # fmt: skip
    gpt = GPT(plan.config, torch.bfloat16 if scenario == "bf16" else torch.float32)
    gpt.init_weights(torch.Generator().manual_seed(0))
    return plan, gpt


def rows_of(step: int) -> torch.Tensor:
    """(ATOMS, rows, length)."""
    return torch.randint(0, VOCAB, (ATOMS, 2, 17), generator=torch.Generator().manual_seed(step))


def backward(gpt: GPT, rows: torch.Tensor, scenario: str, atom: int) -> None:
    inputs, targets = inputs_and_targets(rows)
    loss = gpt.summed_loss(inputs, targets) / (ATOMS * 2 * 16)
    leaves = [p for name, p in gpt.named_parameters() if scenario != "missing" or atom % 2 == 0 or name != MISSING]
    loss.backward(inputs=leaves)


def oracle(scenario: str, preset: str = "modern") -> dict[str, torch.Tensor]:
    """The same steps with whole gradients and state, one parameter at a time. Weights by name."""
    plan, gpt = new_gpt(scenario, preset)
    groups, state, names = param_groups(gpt, plan), {}, {p: name for name, p in gpt.named_parameters()}
    helper = MuonAdamW(GPT(plan.config), plan)  # for the schedule alone
    for step in range(STEPS):
        for atom, rows in enumerate(rows_of(step)):
            backward(gpt, rows, scenario, atom)
        helper.set_schedule(plan, step)
        if scenario == "clipped":
            norm = torch.sqrt(sum(p.grad.double().square().sum() for p in gpt.parameters()))
            for p in gpt.parameters():
                p.grad *= (CLIP / (norm + 1e-6)).clamp(max=1).float()
        for group in groups:
            rates = next(g for g in helper.param_groups if g["name"] == group["name"])
            for p in group["params"]:
                with torch.no_grad():
                    if group["kind"] == "adamw":
                        first, second = state.setdefault(names[p], (torch.zeros_like(p), torch.zeros_like(p)))
                        rule = {key: rates[key] for key in ("lr", "betas", "weight_decay")}
                        adamw_update(p.data, p.grad, first, second, step=step + 1, eps=ADAM_EPS, **rule)
                    else:
                        stacked = p.data.view(-1, *p.shape[-2:])
                        variance = torch.zeros(len(stacked), *variance_shape(*p.shape[-2:]))
                        first, second = state.setdefault(names[p], (torch.zeros_like(stacked), variance))
                        muon_update(stacked, p.grad.view(stacked.shape), first, second, lr=rates["lr"],
                                    momentum_coefficient=rates["momentum"], beta2=rates["betas"][1],
                                    weight_decay=rates["weight_decay"], compute_dtype=gpt.compute_dtype,
                                    heads=gpt.config.n_head if names[p].endswith("attn.qkv") else 1)  # fmt: skip
                p.grad = None
    return {name: p.data for name, p in gpt.named_parameters()}


def digest(gpt: GPT) -> str:
    return hashlib.sha256(b"".join(p.data.view(torch.uint8).numpy().tobytes() for p in gpt.parameters())).hexdigest()


def train(rank: int, world: int, port: int, folder: str, scenarios: list[str], preset: str) -> None:
    """One rank: all scenarios one after the other; leaves its owned weights in files."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for scenario in scenarios:
        plan, gpt = new_gpt(scenario, preset)
        wire = Wire(rank, world)
        optimizer = MuonAdamW(gpt, plan, wire, **SCENARIOS[scenario])
        for step in range(STEPS):
            mine = range(rank, ATOMS, world)
            for atom in mine:
                optimizer.reducer.begin(last=atom == mine[-1])
                backward(gpt, rows_of(step)[atom], scenario, atom)
                optimizer.reducer.flush()
            optimizer.finish_gradients()
            if scenario == "clipped":
                square = optimizer.owned_square()
                wire.all_reduce(square).wait()
                optimizer.scale_gradients((CLIP / (square.sqrt() + 1e-6)).clamp(max=1).float())
            optimizer.set_schedule(plan, step)
            optimizer.step()
            optimizer.zero_grad()
            assert all(p.grad is None for p in gpt.parameters()) or world == 1
            optimizer.wait_for_weights()
            found: list = [None] * world
            dist.all_gather_object(found, digest(gpt))
            assert len(set(found)) == 1, f"{scenario}: ranks differ after step {step}"
        weights, _state = optimizer.named_pieces(gpt)
        for name, piece in weights.items():
            save_file(
                {"x": piece.tensor.contiguous()}, f"{folder}/{scenario}.{name}.{'_'.join(map(str, piece.offsets))}"
            )
        if rank == 0 and scenario == "default":
            sent = {
                "sent": torch.tensor([sum(wire.sent.values())]),
                "held": torch.tensor(list(optimizer.held_bytes().values())),
            }
            save_file(sent, f"{folder}/numbers")
    dist.destroy_process_group()


def run(world: int, folder: Path, scenarios: list[str], preset: str = "modern") -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(train, (world, port, str(folder), scenarios, preset), world, start_method="forkserver")


def joined(folder: Path, scenario: str, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that the ranks' pieces make together; every number must have an owner."""
    whole = {name: torch.full_like(tensor, torch.nan) for name, tensor in like.items()}
    for name, tensor in whole.items():
        for path in folder.glob(f"{scenario}.{name}.[0-9]*"):
            piece = load_file(path)["x"]
            offsets = [int(n) for n in path.name.rpartition(".")[2].split("_")]
            tensor[tuple(slice(o, o + n) for o, n in zip(offsets, piece.shape, strict=True))] = piece
    return whole


@pytest.fixture(autouse=True)
def one_thread():
    """As the ranks have: products of such small matrices split their sums by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[1, 2, 4])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"world{request.param}")
    run(request.param, folder, list(SCENARIOS))
    return folder


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_any_number_of_ranks_equals_the_plain_loop(trained, scenario):
    expected = oracle(scenario)
    found = joined(trained, scenario, expected)
    exact = scenario in ("default", "after", "missing", "bf16")
    for name, tensor in expected.items():
        if exact:
            assert torch.equal(found[name], tensor), name
        else:
            # Gradients (or, for clipping, the norm) summed in another order.
            assert torch.allclose(found[name], tensor, atol=2e-4), name
            assert (found[name] - tensor).abs().mean() < 1e-5, name


@pytest.mark.parametrize("world", [3, 8])
def test_ranks_that_do_not_divide_the_layers(tmp_path, world):
    """Buckets of several layers, buckets that are not full, ranks that own nothing of some."""
    run(world, tmp_path, ["once"])
    expected = oracle("once")
    found = joined(tmp_path, "once", expected)
    assert all(torch.allclose(found[name], tensor, atol=2e-4) for name, tensor in expected.items())


def test_the_classic_preset(tmp_path):
    """Biases and norms, learned positions, a head that shares the embedding's weights."""
    run(2, tmp_path, ["default"], "gpt2")
    expected = oracle("default", "gpt2")
    found = joined(tmp_path, "default", expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
