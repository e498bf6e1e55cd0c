"""The decision to compile, and that compiled blocks compute the same."""

import functools
import shutil

import pytest
import torch

from vnc.attention import masked_attention
from vnc.compiling import compile_in_place, compiled_for_training, worth_compiling
from vnc.cuda import attention as cuda_attention
from vnc.depth import make_plan
from vnc.gpt import GPT


def test_long_runs_compile_on_a_gpu_and_short_ones_do_not(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not worth_compiling(make_plan(4, num_steps=1), cuda, 1e15)[0]
    assert worth_compiling(make_plan(12, num_steps=100_000), cuda, 1e15)[0]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert worth_compiling(make_plan(12, num_steps=100_000), cuda, 1e15) == (False, "no C compiler is installed")


@pytest.mark.parametrize("peak_flops", [1e9, 1e15])
def test_on_a_cpu_the_choice_does_not_depend_on_how_busy_it_is(peak_flops):
    assert not worth_compiling(make_plan(4, num_steps=100_000), torch.device("cpu"), peak_flops)[0]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_blocks_give_the_same_losses_and_gradients():
    plan = make_plan(
        2, vocab_size=100, sequence_len=64, aspect_ratio=32, head_dim=32, total_batch_tokens=256, num_steps=1
    )
    results = []
    for setting in ("off", "on"):
        gpt = GPT(plan.config)
        gpt.init_weights(torch.Generator().manual_seed(0))
        with torch.no_grad():
            for block in gpt.blocks:
                block.attn.proj.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        said = compile_in_place(gpt, plan, setting, torch.device("cpu"), 1e12)
        assert said == f"{setting}: as asked"
        ids = torch.randint(0, 100, (4, 65), generator=torch.Generator().manual_seed(2))
        loss = gpt.summed_loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        results.append((loss.detach(), gpt.blocks[0].attn.qkv.grad))
    # Scores and samples come in all shapes: nothing is compiled for them.
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch.no_grad():
        for length in (5, 6):
            assert gpt.token_losses(ids[:, :length], ids[:, 1 : 1 + length]).shape == (4, length)
    assert 0 < compiled == torch._dynamo.utils.counters["stats"]["unique_graphs"]
    (loss, gradient), (compiled_loss, compiled_gradient) = results
    assert torch.allclose(loss, compiled_loss, rtol=1e-5)
    assert torch.allclose(gradient, compiled_gradient, rtol=1e-3, atol=1e-5)


def test_compiled_code_steps_out_at_flex_attention(monkeypatch):
    """Which is compiled by itself, for its band (on CUDA; here it runs as plain torch)."""
    monkeypatch.setattr(cuda_attention, "flex_route", cuda_attention.flex_route)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))

    def attend(*qkv):
        return cuda_attention.cuda_attention(*qkv, 100, 0.25)

    inputs = [torch.randn(2, 3, 256, 16, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    breaks = torch._dynamo.utils.counters["graph_break"]
    before = breaks.total()
    found = compiled_for_training(attend)(*inputs)
    assert breaks.total() > before
    assert torch.allclose(found, masked_attention(*inputs, 100, 0.25), atol=1e-5)
