"""FLOPs: the formula against torch's counter on the real model; the attention that is counted against the real one."""

import json

import pytest
import torch

from scaling import flop_check as module
from scaling.flop_check import check_model
from scaling.measured_flops import block_causal_attention, count_flops, gathered_attention
from scaling.verify_flops import explanations, parse_depths, verify_flops
from vnc.attention import masked_attention
from vnc.c import training as c_training
from vnc.config import GPTConfig
from vnc.depth import model_config
from vnc.errors import UserError
from vnc.flops import flops_per_token
from vnc.gpt import GPT


@pytest.mark.parametrize("window", [1, 5, 16, 40])
def test_gathered_attention_is_attention(window: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 16, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mine, reference = (f(q, k, v, window, 0.3) for f in (gathered_attention, masked_attention))
    torch.testing.assert_close(mine, reference)
    weights = torch.randn_like(mine)
    for one, other in zip(
        torch.autograd.grad((mine * weights).sum(), (q, k, v)),
        torch.autograd.grad((reference * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
@pytest.mark.parametrize("depth", [2, 3, 4, 8, 12])
def test_formula_is_what_the_model_computes(preset: str, depth: int) -> None:
    config = model_config(depth, preset=preset)  # type: ignore[arg-type]
    counted = count_flops(config)
    padding = 6 * (config.padded_vocab_size - config.vocab_size) * config.n_embd
    assert counted.total == flops_per_token(config) - padding
    assert counted.total == pytest.approx(flops_per_token(config), rel=0.001)
    assert counted.backward == 2 * counted.forward


def small(**changes: object) -> GPTConfig:
    sizes = dict(vocab_size=256, sequence_len=256, n_layer=3, n_head=2, n_embd=64, window_pattern="SL")
    return GPTConfig(**(sizes | changes))  # type: ignore[arg-type]


def test_the_cpu_route_on_the_meta_device_counts_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what `GPT.summed_loss` runs is what is counted: nothing is lost by handing attention over. By torch's
    operations, for those are what its counter sees."""
    monkeypatch.setattr(c_training, "library", lambda *page: None)
    from torch.utils.flop_counter import FlopCounterMode

    config = small()
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(0))
    row = torch.randint(0, 256, (1, 256))
    with FlopCounterMode(display=False) as counter:
        model.summed_loss(row, row).backward()  # type: ignore[no-untyped-call]
    assert counter.get_total_flops() / 256 == count_flops(config, block_causal_attention).total


def test_the_cpu_route_does_about_half_the_square() -> None:
    """One layer over the whole context: 3 products of q and k, 3 of weights and v, over blocks of 128 queries."""
    config = small(n_layer=1, sequence_len=512)
    square, blocks = count_flops(config).total, count_flops(config, block_causal_attention).total
    left_out = 1 - (128 + 256 + 384 + 512) / (4 * 512)
    assert square - blocks == 12 * 64 * 512 * left_out


def test_a_wrong_formula_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = lambda config: round(1.02 * flops_per_token(config))  # noqa: E731
    monkeypatch.setattr(module, "flops_per_token", wrong)
    with pytest.raises(SystemExit) as end:
        verify_flops(depths="2", preset="modern", sequence_len=256, vocab_size=512)
    assert end.value.code == 1
    said = capsys.readouterr()
    assert "Unexplained" in said.out and "more than 1%" in said.err


def test_table_and_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    verify_flops(depths="2,3", preset="gpt2", sequence_len=128, vocab_size=100)
    said = capsys.readouterr().out
    assert said.count("gpt2  ") >= 2 and "pad the vocabulary" in said and "to the FLOP" in said
    check = check_model("modern", 2, small(n_layer=2))
    assert check.unexplained == 0 and not any("pad the" in line for line in explanations([check]))


def test_json_holds_the_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    verify_flops(depths="2", preset="modern", sequence_len=256, vocab_size=512, json=True)
    (check,) = json.loads(capsys.readouterr().out)
    assert check["of_formula"]["counted"] == 1 and check["counted"] == check["formula"]
    assert check["six_n"]["all"] > check["six_n"]["matrices_and_head"]


def test_depths_as_written() -> None:
    assert parse_depths("2,4,...,12") == [2, 4, 6, 8, 10, 12]
    assert parse_depths("3, 5") == [3, 5]
    assert parse_depths("6,...,9") == [6, 7, 8, 9]
    for wrong in ("", "0", "4,x", "2,...", "...,4", "2,4,...", "4,2,...,12", "8,...,4", "2,...,4,...,8"):
        with pytest.raises(UserError, match="depths="):
            parse_depths(wrong)


def test_the_figure_is_written(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    verify_flops(depths="2", preset="modern", sequence_len=256, vocab_size=512, out=str(tmp_path / "new"))
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert written == {"flops_by_depth.png", "flops_by_depth.svg"}
    assert "plan's formula" in (tmp_path / "new" / "flops_by_depth.svg").read_text()
