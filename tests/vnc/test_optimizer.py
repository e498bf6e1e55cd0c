"""MuonAdamW: views, groups, and one step against the update rules applied parameter by parameter."""

import pytest
import torch

from vnc.depth import make_plan
from vnc.gpt import GPT
from vnc.muon import adamw_update, muon_update, variance_shape
from vnc.optimizer import MuonAdamW, group_parameters
from vnc.schedule import lr_multiplier
from vnc.shards import ADAM_EPS


@pytest.fixture(params=["modern", "gpt2"])
def trained(request):
    plan = make_plan(3, preset=request.param, vocab_size=100, sequence_len=16, aspect_ratio=16, head_dim=16,
                     total_batch_tokens=64, num_steps=50)  # fmt: skip
    gpt = GPT(plan.config)
    gpt.init_weights(torch.Generator().manual_seed(0))
    return plan, gpt, MuonAdamW(gpt, plan)


def backward(gpt, seed=1):
    ids = torch.randint(0, 100, (4, 17), generator=torch.Generator().manual_seed(seed))
    (gpt.summed_loss(ids[:, :-1], ids[:, 1:]) / 64).backward()


def test_every_parameter_is_in_one_group(trained):
    _plan, gpt, optimizer = trained
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(map(id, grouped))) == len(list(gpt.parameters()))


def test_matrices_go_to_muon_and_nothing_else(trained):
    _plan, gpt, _ = trained
    matrices = {id(p) for p in group_parameters(gpt)["matrices"]}
    named = {name for name, p in gpt.named_parameters() if id(p) in matrices}
    assert named == {name for name, p in gpt.named_parameters() if name.startswith("blocks.") and p.dim() >= 2}


def test_parameters_and_gradients_are_views_of_the_buckets(trained):
    _plan, gpt, optimizer = trained
    backward(gpt)
    assert {p for bucket in optimizer.reducer.buckets for p in bucket.parameters} == set(gpt.parameters())
    for bucket in optimizer.reducer.buckets:
        for parameter in bucket.parameters:
            assert parameter.data.untyped_storage().data_ptr() == bucket.weights.untyped_storage().data_ptr()
            assert parameter.grad.untyped_storage().data_ptr() == bucket.owned_gradient.untyped_storage().data_ptr()


def test_buckets_stand_in_the_order_in_which_backward_completes_them(trained):
    _plan, gpt, optimizer = trained
    names, seen = {p: name for name, p in gpt.named_parameters()}, []
    for p in gpt.parameters():
        p.register_post_accumulate_grad_hook(lambda p: seen.append(p))
    backward(gpt)
    position = {p: i for i, p in enumerate(seen)}
    completed = [max(position[p] for p in bucket.parameters) for bucket in optimizer.reducer.buckets]
    assert completed == sorted(completed), [[names[p] for p in b.parameters] for b in optimizer.reducer.buckets]


def test_steps_equal_the_rules_applied_one_parameter_at_a_time(trained):
    plan, gpt, optimizer = trained
    weights = {name: p.detach().clone() for name, p in gpt.named_parameters()}
    state: dict = {}
    for step in range(3):
        backward(gpt, seed=step)
        optimizer.set_schedule(plan, step)
        for group in optimizer.param_groups:
            members = {id(p) for p in group["params"]}
            for name, p in gpt.named_parameters():
                if id(p) not in members:
                    continue
                if group["kind"] == "adamw":
                    first, second = state.setdefault(name, (torch.zeros_like(p), torch.zeros_like(p)))
                    adamw_update(weights[name], p.grad, first, second, step=step + 1, lr=group["lr"],
                                 betas=group["betas"], eps=ADAM_EPS, weight_decay=group["weight_decay"])  # fmt: skip
                else:
                    stacked = weights[name].view(-1, *p.shape[-2:])
                    first, second = state.setdefault(
                        name, (torch.zeros_like(stacked), torch.zeros(len(stacked), *variance_shape(*p.shape[-2:])))
                    )
                    muon_update(stacked, p.grad.view(stacked.shape), first, second, lr=group["lr"],
                                momentum_coefficient=group["momentum"], beta2=group["betas"][1],
                                weight_decay=group["weight_decay"], compute_dtype=torch.float32,
                                heads=gpt.config.n_head if name.endswith("attn.qkv") else 1)  # fmt: skip
        optimizer.step()
        optimizer.zero_grad()
    for name, p in gpt.named_parameters():
        assert torch.allclose(p, weights[name], atol=1e-6), name


def test_gradient_norm_counts_every_gradient(trained):
    _plan, gpt, optimizer = trained
    backward(gpt)
    expected = torch.sqrt(sum(p.grad.square().sum() for p in gpt.parameters()))
    assert torch.allclose(optimizer.owned_square().sqrt().float(), expected, rtol=1e-5)


def test_zero_grad_keeps_the_buffers(trained):
    _plan, gpt, optimizer = trained
    backward(gpt)
    pointers = [p.grad.data_ptr() for p in gpt.parameters()]
    optimizer.zero_grad()
    assert [p.grad.data_ptr() for p in gpt.parameters()] == pointers
    assert all(p.grad.abs().max() == 0 for p in gpt.parameters())


def test_a_gradient_that_left_its_buffer_is_an_error_and_zero_grad_mends_it(trained):
    _plan, gpt, optimizer = trained
    backward(gpt)
    gpt.zero_grad(set_to_none=True)
    backward(gpt)
    with pytest.raises(RuntimeError, match="left its buffer"):
        optimizer.step()
    optimizer.zero_grad()
    backward(gpt)
    optimizer.step()


def test_schedule_sets_every_group(trained):
    plan, _gpt, optimizer = trained
    optimizer.set_schedule(plan, 20)
    for group in optimizer.param_groups:
        assert group["lr"] == plan.groups[group["name"]].lr * lr_multiplier(plan, 20)


def test_named_pieces_are_live_views_of_every_weight_and_its_state(trained):
    plan, gpt, optimizer = trained
    weights, state = optimizer.named_pieces(gpt)
    assert {name: piece.shape for name, piece in weights.items()} == {
        n: tuple(p.shape) for n, p in gpt.named_parameters()
    }
    assert {name.rpartition(".")[0] for name in state} == set(weights)
    backward(gpt)
    optimizer.set_schedule(plan, 0)
    optimizer.step()
    assert state["wte.weight.exp_avg"].tensor.abs().max() > 0
    assert state["blocks.0.attn.qkv.momentum"].shape == gpt.blocks[0].attn.qkv.shape
    assert state["blocks.0.mlp.proj.weight.momentum"].tensor.abs().max() > 0
    for name, p in gpt.named_parameters():
        assert torch.equal(weights[name].tensor, p)


def test_clipping_scales_every_gradient(trained):
    _plan, gpt, optimizer = trained
    backward(gpt)
    before = optimizer.owned_square()
    optimizer.scale_gradients(torch.tensor(0.5))
    assert torch.allclose(optimizer.owned_square(), before / 4)
