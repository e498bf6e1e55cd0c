"""The model: what it may see, how its parts add up, how it starts."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vnc.depth import make_plan, model_config
from vnc.elementwise import rotate
from vnc.gpt import GPT
from vnc.module import VNCModule


def make(preset="modern", depth=4, dtype=torch.float32, **sizes):
    settings = dict(vocab_size=100, sequence_len=32, aspect_ratio=16, head_dim=16) | sizes
    gpt = GPT(model_config(depth, preset=preset, **settings), dtype)
    gpt.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():  # the recipe starts output projections and the smear at zero: give every part a voice
        for name, parameter in gpt.named_parameters():
            if "proj" in name or "smear_scale" in name or "lm_head" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    return gpt


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_a_position_depends_on_nothing_after_it(preset):
    gpt = make(preset)
    inputs = torch.randint(0, 100, (2, 32))
    changed = inputs.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % 100
    before, after = gpt(inputs), gpt(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_short_windows_limit_what_one_layer_sees():
    gpt = make(depth=2, sequence_len=512, window_pattern="SL")
    assert gpt.config.windows == (128, 512)
    block, x = gpt.blocks[0], torch.randn(1, 200, gpt.config.n_embd)
    changed = x.clone()
    changed[:, 0] += 1
    cos, sin = gpt.rotary(200)
    rotary = cos[:, None, None], sin[:, None, None]
    before, after = block(x, None, None, rotary), block(changed, None, None, rotary)
    assert not torch.allclose(before[:, :128], after[:, :128])
    assert torch.equal(before[:, 128:], after[:, 128:])


def test_one_layer_by_hand():
    """The modern block, written out with plain loops over heads and torch's own masked attention."""
    gpt = make(depth=2)
    config, block = gpt.config, gpt.blocks[1]
    x, table, ids = torch.randn(2, 9, config.n_embd), torch.randn(50, config.n_embd), torch.randint(50, (2, 9))
    value = table[ids]
    cos, sin = gpt.rotary(9)
    found = block(x, None, (table, ids), (cos[:, None, None], sin[:, None, None]))

    normed = F.rms_norm(x, (config.n_embd,))
    q, k, v = (normed @ block.attn.qkv[i].T for i in range(3))
    out = torch.zeros_like(x)
    for head in range(config.n_head):
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        gate = 3 * torch.sigmoid(normed[..., :12] @ block.attn.value_gate.weight[head])
        vh = v[..., part] + gate[..., None] * value[..., part]
        qh, kh = (1.2 * F.rms_norm(rotate(t[..., part], cos, sin), (config.head_dim,)) for t in (q, k))
        out[..., part] = F.scaled_dot_product_attention(qh, kh, vh, is_causal=True)
    x = x + out @ block.attn.proj.weight.T
    hidden = F.relu(F.rms_norm(x, (config.n_embd,)) @ block.mlp.fc.weight.T) ** 2
    assert torch.allclose(found, x + hidden @ block.mlp.proj.weight.T, atol=1e-4)


def test_rotation_makes_scores_depend_on_distance_alone():
    gpt = make()
    cos, sin = gpt.rotary(30)
    q, k = torch.randn(16), torch.randn(16)
    turned_q, turned_k = (rotate(t.expand(30, 16), cos, sin) for t in (q, k))
    scores = turned_q @ turned_k.T
    assert torch.allclose(scores[5, 2], scores[25, 22], atol=1e-5)
    assert not torch.allclose(scores[5, 2], scores[5, 4], atol=1e-3)


def test_smear_adds_the_previous_token_only():
    gpt = make()
    x = torch.randn(1, 5, gpt.config.n_embd)
    found = gpt.smear(x, None)
    x = F.rms_norm(x, (gpt.config.n_embd,))
    gate = gpt.smear_scale * torch.sigmoid(x[..., :24] @ gpt.smear_gate.weight.T)
    assert torch.allclose(found[:, 0], x[:, 0])
    assert torch.allclose(found[:, 1:], x[:, 1:] + gate[:, 1:] * x[:, :-1])


def test_logits_are_capped_and_losses_agree_with_them():
    gpt = make()
    inputs, targets = torch.randint(0, 100, (2, 12)), torch.randint(0, 100, (2, 12))
    logits = gpt.logits(gpt(inputs))
    assert logits.shape == (2, 12, 100) and logits.abs().max() < 15
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 12)
    assert torch.allclose(gpt.token_losses(inputs, targets), expected, atol=1e-4)
    assert torch.allclose(gpt.summed_loss(inputs, targets), expected.sum(), rtol=1e-5)


def test_a_model_that_was_sampled_first_can_be_trained():
    gpt, ids = make(), torch.randint(0, 100, (2, 13))
    with torch.inference_mode():
        gpt(ids)
    gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
    assert gpt.wte.weight.grad.abs().max() > 0


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_every_parameter_learns(preset):
    gpt = make(preset)
    gpt.summed_loss(torch.randint(0, 100, (4, 32)), torch.randint(0, 100, (4, 32))).backward()
    silent = [name for name, p in gpt.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_a_new_model_is_nearly_uniform():
    gpt = GPT(model_config(2, vocab_size=100, sequence_len=32, aspect_ratio=16, head_dim=16))
    gpt.init_weights(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 100, (4, 33))
    loss = gpt.summed_loss(ids[:, :-1], ids[:, 1:]) / (4 * 32)
    assert loss.item() == pytest.approx(torch.tensor(100.0).log().item(), abs=0.02)


def test_init_follows_the_recipe():
    gpt = GPT(model_config(4, vocab_size=1000, head_dim=64))
    gpt.init_weights(torch.Generator().manual_seed(0))
    width = gpt.config.n_embd
    assert gpt.wte.weight.std().item() == pytest.approx(0.8, rel=0.02)
    assert gpt.head.std().item() == pytest.approx(0.001, rel=0.02)
    assert gpt.blocks[0].attn.qkv.std().item() == pytest.approx(width**-0.5, rel=0.02)
    assert gpt.blocks[0].attn.qkv.abs().max().item() <= (3 / width) ** 0.5
    assert gpt.blocks[0].mlp.fc.weight.std().item() == pytest.approx(0.4 * width**-0.5, rel=0.02)
    assert gpt.blocks[0].attn.proj.weight.abs().max() == 0 and gpt.blocks[0].mlp.proj.weight.abs().max() == 0
    assert gpt.residual_scale[0].item() == pytest.approx(1.15) and gpt.residual_scale[-1].item() == pytest.approx(1.05)
    assert gpt.x0_scale[0].item() == pytest.approx(0.20) and gpt.x0_scale[-1].item() == pytest.approx(0.05)
    assert list(gpt.value_embeds) == ["1", "3"]


def test_classic_head_is_the_embedding():
    gpt = make("gpt2")
    assert gpt.head is gpt.wte.weight


def test_bfloat16_stays_close_to_float32():
    exact, rounded = make(), make(dtype=torch.bfloat16)
    ids = torch.randint(0, 100, (4, 33))
    losses = [gpt.summed_loss(ids[:, :-1], ids[:, 1:]).item() / 128 for gpt in (exact, rounded)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_weights_are_drawn_on_the_cpu_wherever_new_tensors_are_made():
    """Lightning calls configure_model where they are made on the GPU, which the CPU's generator cannot fill; the meta
    device stands for it."""
    module = VNCModule(depth=2)
    module.plan = make_plan(2, vocab_size=100, sequence_len=32, aspect_ratio=16, head_dim=16, num_steps=1)
    module._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    with torch.device("meta"), pytest.warns(UserWarning, match="no-op"):
        module.configure_model()
    assert module.gpt.wte.weight.device.type == "meta"
