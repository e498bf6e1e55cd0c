"""The row encoding: ids and loss mask in one number."""

import torch

from vnc.rows import inputs_and_targets


def test_negative_numbers_are_read_but_not_learnt():
    rows = torch.tensor([[5, 3, ~4, ~0, 2]], dtype=torch.int32)
    inputs, targets = inputs_and_targets(rows)
    assert inputs.tolist() == [[5, 3, 4, 0]] and targets.tolist() == [[3, -1, -1, 2]]
    assert inputs.dtype == targets.dtype == torch.int64
