"""Where a micro-batch cannot be recorded; where it can, tests/vnc/cuda/test_cuda.py has it."""

import pytest
import torch

from vnc.config import GPTConfig
from vnc.cuda_graph import LossRecorder
from vnc.gpt import GPT


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
@pytest.mark.parametrize("wanted", [True, False])
def test_without_a_recording_the_loss_is_the_model_s_own(wanted, recwarn):
    gpt = GPT(GPTConfig(vocab_size=50, sequence_len=16, n_layer=2, n_head=2, n_embd=32))
    gpt.init_weights(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 50, (2, 17), generator=torch.Generator().manual_seed(1))
    recorder = LossRecorder(wanted)
    for _ in range(2):
        recorder.record(gpt, torch.Size((2, 16)), 0.0)
        found = recorder.summed_loss(gpt, ids[:, :-1], ids[:, 1:], 1e-3)
        assert torch.equal(found, gpt.summed_loss(ids[:, :-1], ids[:, 1:], 1e-3))
    said = [str(warning.message) for warning in recwarn if "going on without a CUDA graph" in str(warning.message)]
    assert len(said) == wanted and not recorder.wanted
    found.backward()
    assert gpt.wte.weight.grad.abs().sum() > 0
