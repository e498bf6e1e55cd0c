"""What only a GPU can show: every route that CUDA takes computes what the CPU's does, and training on it can be resumed
to the bit. Skipped where there is none."""

import copy
import random

import pytest
import torch

from vnc.attention import attention, masked_attention
from vnc.compiling import compile_in_place, use_fp8
from vnc.cuda.attention import cuda_attention, windowed_flash_attention, windowed_flex_attention
from vnc.cuda.cudnn_attention import takes_cudnn, windowed_cudnn_attention
from vnc.cuda.fp8 import rounded, rounded_both_ways
from vnc.cuda.heads import takes_heads
from vnc.cuda.squared_relu import squared_relu_mlp, takes_squared_relu
from vnc.cuda_graph import RecordedLoss
from vnc.depth import make_plan
from vnc.elementwise import plain_heads, split_heads
from vnc.gpt import GPT
from vnc.loss import summed_cross_entropy, token_cross_entropy
from vnc.muon import muon_update, variance_shape
from vnc.optimizer import MuonAdamW

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative to the length of what is exact; NaN is never near."""
    return float((found.double().cpu() - exact.double().cpu()).norm() / exact.double().norm().cpu())


def with_gradients(function, *inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = function(*inputs)
    generator = torch.Generator().manual_seed(5)
    (y.float() * torch.randn(y.shape, generator=generator).to(y.device)).sum().backward()
    return y.detach(), *(x.grad for x in inputs)


ROUTES = {
    "chosen": cuda_attention,
    "flash": windowed_flash_attention,
    "flex": windowed_flex_attention,
    "cudnn": windowed_cudnn_attention,
    "cudnn, compiled": torch.compile(windowed_cudnn_attention),
}


@pytest.mark.parametrize("window", [64, 100, 512, 1024])
@pytest.mark.parametrize("route", ROUTES)
def test_attention_and_its_gradients(route, window):
    if "cudnn" in route and not takes_cudnn(torch.empty(128, dtype=torch.bfloat16, device="cuda")):
        pytest.skip("needs a Hopper GPU and nvidia-cudnn-frontend")
    route = ROUTES[route]
    generator = torch.Generator().manual_seed(window)
    # As the blocks make them: views of (batch, time, heads, head_dim).
    q, k, v = (torch.randn(2, 1024, 3, 128, generator=generator).bfloat16().transpose(1, 2) for _ in range(3))
    exact = with_gradients(lambda *x: masked_attention(*x, window, 0.1), *(x.double() for x in (q, k, v)))
    found = with_gradients(lambda *x: route(*x, window, 0.1), *(x.cuda() for x in (q, k, v)))
    assert max(map(distance, found, exact)) < 0.01


@pytest.mark.parametrize("dtype, bound", [(torch.bfloat16, 0.01), (torch.float32, 2e-3)])
def test_scores_of_any_length_without_gradients(dtype, bound):
    q, k, v = (torch.randn(1, 2, 301, 64, generator=torch.Generator().manual_seed(1)).to(dtype) for _ in range(3))
    exact = masked_attention(*(x.double() for x in (q, k, v)), 100, 0.1)
    with torch.no_grad():
        assert distance(attention(q.cuda(), k.cuda(), v.cuda(), 100, 0.1), exact) < bound


def test_a_window_over_fp32():
    q, k, v = (torch.randn(1, 2, 300, 64, generator=torch.Generator().manual_seed(1)) for _ in range(3))
    exact = masked_attention(*(x.double() for x in (q, k, v)), 100, 0.1)
    assert distance(cuda_attention(q.cuda(), k.cuda(), v.cuda(), 100, 0.1), exact) < 2e-3  # TF32 products


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("head_dim, time", [(128, 100), (64, 33)])
def test_heads_in_one_pass(head_dim, time, compiled):
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, time, 3, 3, head_dim, generator=generator).bfloat16()
    angles = torch.randn(time, 1, 1, head_dim // 2, generator=generator)
    tables = angles.cos().bfloat16(), angles.sin().bfloat16()

    def all_of(split, x, cos, sin):
        q, k, v = split(x, (cos, sin), True)
        return torch.stack((q.transpose(1, 2), k.transpose(1, 2), v), 2)

    def plain(x, rotary, normalize):
        return *plain_heads(x[:, :, :2], rotary, normalize), x[:, :, 2]

    assert takes_heads(qkv.cuda(), tables[0].cuda(), True)
    split = torch.compile(split_heads) if compiled else split_heads
    exact = with_gradients(lambda x: all_of(plain, x, *(table.double() for table in tables)), qkv.double())
    found = with_gradients(lambda x: all_of(split, x, *(table.cuda() for table in tables)), qkv.cuda())
    assert max(map(distance, found, exact)) < 0.01


@pytest.mark.parametrize("tokens, width", [(4096, 128), (5000, 88)])
@pytest.mark.parametrize("compiled", [False, True])
def test_mlp_with_its_activation_in_the_products(tokens, width, compiled):
    generator = torch.Generator().manual_seed(0)
    x, up, down = (
        (torch.randn(shape, generator=generator) * shape[-1] ** -0.5).bfloat16()
        for shape in ((2, tokens // 2, width), (4 * width, width), (width, 4 * width))
    )
    if not takes_squared_relu(x.cuda(), up.cuda()):
        pytest.skip("the kernel is for Hopper GPUs")
    route = torch.compile(squared_relu_mlp) if compiled else squared_relu_mlp
    exact = with_gradients(
        lambda x, up, down: (x @ up.mT).relu().square() @ down.mT, *(t.double() for t in (x, up, down))
    )
    found = with_gradients(route, *(t.cuda() for t in (x, up, down)))
    assert max(map(distance, found, exact)) < 0.01


@pytest.mark.parametrize("vocab_size", [1000, 9001])
@pytest.mark.parametrize("softcap, z_loss", [(15.0, 0.0), (0.0, 1e-3), (100.0, 1e-3)])
def test_loss(softcap, z_loss, vocab_size):
    generator = torch.Generator().manual_seed(0)
    rows = -(-vocab_size // 64) * 64
    hidden, head = torch.randn(500, 64, generator=generator), torch.randn(rows, 64, generator=generator)
    targets = torch.randint(-1, vocab_size, (500,), generator=generator)

    def loss(hidden, head):
        return summed_cross_entropy(hidden, head, targets.to(hidden.device), vocab_size, softcap, z_loss)[None]

    exact = with_gradients(loss, hidden.double(), head.double())
    found = with_gradients(loss, hidden.bfloat16().cuda(), head.cuda())
    assert max(map(distance, found, exact)) < 0.02
    assert found[2][vocab_size:].abs().max() == 0  # padded rows learn nothing
    of_tokens = token_cross_entropy(hidden.cuda(), head.cuda(), targets.cuda(), vocab_size, softcap)
    assert distance(of_tokens, token_cross_entropy(hidden, head, targets, vocab_size, softcap)) < 2e-3  # TF32 products


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 5e-3), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("rows, cols", [(256, 256), (1024, 256), (256, 1024)])
def test_muon(rows, cols, dtype, bound):
    generator = torch.Generator().manual_seed(0)
    weights, gradient, momentum = (torch.randn(3, rows, cols, generator=generator) for _ in range(3))
    second = torch.rand(3, *variance_shape(rows, cols), generator=generator)
    settings = dict(lr=0.1, momentum_coefficient=0.9, beta2=0.9, weight_decay=0.1)
    results = []
    for device, compute_dtype in (("cpu", torch.float32), ("cuda", dtype)):
        state = [x.clone().to(device) for x in (weights, gradient, momentum, second)]
        muon_update(*state, **settings, compute_dtype=compute_dtype)
        results.append(state[0].cpu() - weights)
    assert distance(results[1], results[0]) < bound


def train(device: str, dtype: torch.dtype, compile: str = "off", steps: int = 3, width: int = 128,
          fp8: bool = False, recorded: bool = False) -> tuple[list[float], GPT, MuonAdamW]:  # fmt: skip
    plan = make_plan(
        4, vocab_size=500, sequence_len=256, aspect_ratio=width // 4, head_dim=64, total_batch_tokens=1024, num_steps=20
    )
    gpt = GPT(plan.config, dtype)
    gpt.init_weights(torch.Generator().manual_seed(0))
    gpt.to(device)
    optimizer = MuonAdamW(gpt, plan)
    if fp8:
        use_fp8(gpt, torch.device(device))
    compile_in_place(gpt, plan, compile, torch.device(device), 1e15)
    ids = torch.randint(0, 500, (4, 257), generator=torch.Generator().manual_seed(1)).to(device)
    # Contiguous, as a recording has them: for other strides other kernels are compiled.
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    losses, summed_loss = [], gpt.summed_loss
    for step in range(steps):
        summed_loss = RecordedLoss(gpt, targets.shape, 0.0) if recorded and step == 1 else summed_loss
        loss = summed_loss(inputs, targets) / targets.numel()
        loss.backward()
        optimizer.set_schedule(plan, step + 10)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        del loss
    return losses, gpt, optimizer


@pytest.mark.parametrize("compile", ["off", "on"])
def test_steps_of_training_follow_the_cpu(compile):
    expected, _, _ = train("cpu", torch.float32)
    found, gpt, _ = train("cuda", torch.bfloat16, compile)
    assert found == pytest.approx(expected, rel=0.01)
    assert expected[-1] < expected[0] - 0.02  # and they do learn
    inputs = torch.randint(0, 500, (2, 200), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        on_cpu = copy.deepcopy(gpt) if compile == "off" else None
        losses = gpt.token_losses(inputs.cuda(), inputs.cuda())
        if on_cpu is not None:
            on_cpu = on_cpu.float().cpu()
            on_cpu.compute_dtype = torch.float32
            assert distance(losses, on_cpu.token_losses(inputs, inputs)) < 0.02


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_rounding_both_ways_at_once(dtype):
    x = torch.randn(400, 336, generator=torch.Generator().manual_seed(0)).bfloat16().cuda()
    (expected, expected_scale), (y, transposed, scale) = rounded(x, dtype), rounded_both_ways(x, dtype)
    assert torch.equal(scale, expected_scale) and torch.equal(transposed.float(), y.float().t())
    assert (y.float() == expected.float()).float().mean() > 0.999  # divisions differ in their last bit


def test_steps_in_8_bits_learn_as_those_in_16_do():
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("needs a GPU with FP8 products")
    expected, _, _ = train("cuda", torch.bfloat16, width=256)
    found, gpt, _ = train("cuda", torch.bfloat16, "on", width=256, fp8=True)
    assert gpt.blocks[0].attn.fp8 and gpt.blocks[0].mlp.fc.fp8
    assert found == pytest.approx(expected, rel=0.01) and found != expected


def test_the_same_steps_give_the_same_weights():
    """Without torch's deterministic algorithms FlashAttention's backward may add in any order."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        (_, first, _), (_, second, _) = train("cuda", torch.bfloat16), train("cuda", torch.bfloat16)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("compile", ["off", "on"])
def test_recorded_micro_batches_train_to_the_same_weights(compile):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        plain, recorded = (train("cuda", torch.bfloat16, compile, 4, recorded=yes) for yes in (False, True))
    finally:
        torch.use_deterministic_algorithms(False)
    assert plain[0][-1] < plain[0][0]
    if compile == "off":
        assert plain[0] == recorded[0]
        assert all(torch.equal(a, b) for a, b in zip(plain[1].parameters(), recorded[1].parameters(), strict=True))
    else:
        assert plain[0] == pytest.approx(recorded[0], rel=1e-4)


def test_a_recording_of_compiled_code_makes_its_gradients():
    """Nearly: unless torch is asked for determinism, compiled code adds gradients of embeddings in any order."""
    _, gpt, optimizer = train("cuda", torch.bfloat16, "on")
    ids = torch.randint(0, 500, (2, 4, 257), generator=torch.Generator().manual_seed(2)).cuda()

    def gradients(loss, ids):
        optimizer.zero_grad()
        value = loss(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        (value / ids[:, 1:].numel()).backward()
        return float(value), [parameter.grad.clone() for parameter in gpt.parameters()]

    plain = [gradients(gpt.summed_loss, some) for some in ids]
    recorded = RecordedLoss(gpt, ids[0, :, 1:].shape, 0.0)
    for (loss, exact), some in zip(plain, ids, strict=True):
        found_loss, found = gradients(recorded, some)
        assert found_loss == pytest.approx(loss, rel=1e-4)
        assert max(map(distance, found, exact)) < 2e-3
    assert min(map(distance, plain[0][1], plain[1][1])) > 0.02  # other rows have other gradients


def test_generation_with_a_cache_says_what_the_whole_sequence_does():
    _, gpt, _ = train("cuda", torch.bfloat16)
    from vnc.cache import KVCache

    ids = torch.randint(0, 500, (2, 100), generator=torch.Generator().manual_seed(7)).cuda()
    with torch.no_grad():
        whole = gpt(ids)
        cache = KVCache(gpt.config, 2, 128, torch.bfloat16, "cuda")
        parts = [gpt(ids[:, :60], cache), *(gpt(ids[:, i : i + 1], cache) for i in range(60, 100))]
    assert distance(torch.cat(parts, 1), whole) < 0.02


@pytest.mark.parametrize("rows", [1, 3])
def test_recorded_steps_say_what_others_do(rows, monkeypatch):
    from vnc.decoding import recorded_steps
    from vnc.engine import Engine, frozen_copy
    from vnc.sampling import GREEDY
    from vnc.tokenizer import Tokenizer

    _, gpt, _ = train("cuda", torch.float32, steps=1)
    generator = torch.Generator("cuda").manual_seed(0)
    for parameter in gpt.parameters():
        parameter.data.normal_(0.0, 0.3, generator=generator)
    text = "".join(random.Random(0).choices("etaoinshrdlu ", k=20_000))
    engine = Engine(frozen_copy(gpt), Tokenizer.train([text], 500))
    prompts = [list(range(3 + 50 * row, 60 + 60 * row)) for row in range(rows)]
    recorded, steps = [], recorded_steps.RecordedStep

    def record(*arguments):
        recorded.append(steps(*arguments))
        return recorded[-1]

    monkeypatch.setattr(recorded_steps, "RecordedStep", record)
    found = engine.generate(prompts, GREEDY, 70, stop_ids=())
    assert len(recorded) == 1
    engine._recorder = None
    assert found == engine.generate(prompts, GREEDY, 70, stop_ids=()) and len(set(found[0])) > 5
