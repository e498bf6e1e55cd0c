"""What each rank owns, holds and sends, without any processes: the wire only counts."""

import pytest
import torch

from vnc.depth import make_plan
from vnc.gpt import GPT
from vnc.optimizer import MuonAdamW
from vnc.shards import is_tiny, progression
from vnc.wire import Transfer, Wire


class SilentWire(Wire):
    """Counts what would be sent."""

    def reduce_scatter(self, part, full):
        self._count("reduce_scatter", full)
        return Transfer()

    def exchange(self, received, full):
        self._count("exchange", full)
        received.zero_()
        return Transfer()

    def all_gather(self, full, part):
        self._count("all_gather", full)
        if full.untyped_storage().data_ptr() != part.untyped_storage().data_ptr():
            full.zero_()
        return Transfer()

    def all_reduce(self, tensor):
        self._count("all_reduce", tensor, passes=2)
        return Transfer()


def make(depth, world=1, rank=0, preset="modern", micro_batches=1, **options):
    plan = make_plan(depth, preset=preset, vocab_size=1000, sequence_len=32, head_dim=64, aspect_ratio=32,
                     total_batch_tokens=64 * 32, num_steps=50)  # fmt: skip
    gpt = GPT(plan.config)
    gpt.init_weights(torch.Generator().manual_seed(0))
    optimizer = MuonAdamW(gpt, plan, SilentWire(rank, world), **options)
    optimizer.set_schedule(plan, 0)
    ids = torch.randint(0, 1000, (1, 33), generator=torch.Generator().manual_seed(1))
    for i in range(micro_batches):
        optimizer.reducer.begin(last=i == micro_batches - 1)
        gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.reducer.flush()
    optimizer.step()
    optimizer.zero_grad()
    return gpt, optimizer


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8, 16])
def test_every_number_has_one_owner(preset, world):
    """Small ones have all ranks; of the rest every matrix and row belongs to exactly one."""
    owners: dict[str, torch.Tensor] = {}
    for rank in range(world):
        gpt, optimizer = make(3, world, rank, preset)
        weights, state = optimizer.named_pieces(gpt)
        for name, parameter in gpt.named_parameters():
            count = owners.setdefault(name, torch.zeros(parameter.shape))
            if (piece := weights.get(name)) is not None:
                assert piece.shape == tuple(parameter.shape)
                where = tuple(slice(o, o + n) for o, n in zip(piece.offsets, piece.tensor.shape, strict=True))
                count[where] += 1 / world if is_tiny(parameter) else 1
            kinds = {key.rpartition(".")[2] for key in state if key.rpartition(".")[0] == name}
            assert kinds in ({"momentum", "second_moment"}, {"exp_avg", "exp_avg_sq"}) or (piece is None and not kinds)
    assert all(torch.allclose(count, torch.ones(())) for count in owners.values())


@pytest.mark.parametrize("world", [2, 4, 8])
def test_gradients_and_state_are_held_by_their_owners_alone(world):
    """At most 1/N + 3% of what a single process holds, between steps, on every rank (depth 4)."""
    _gpt, alone = make(4)
    whole = alone.held_bytes()
    for rank in range(world):
        held = make(4, world, rank)[1].held_bytes()
        for kinds in (("gradients", "optimizer_state"), ("gradients",), ("optimizer_state",)):
            share = sum(held[kind] for kind in kinds) / sum(whole[kind] for kind in kinds)
            assert 1 / world <= share <= 1 / world + 0.03, (rank, kinds)


def test_whole_gradients_never_lie_together_where_they_are_reduced_after_every_micro_batch():
    sharded, once = (
        make(8, 2, micro_batches=2, reduce_every_micro_batch=every)[1].held_bytes()["peak_gradients"]
        for every in (True, False)
    )
    whole = make(8)[1].held_bytes()["gradients"]
    assert once >= 1.5 * whole  # the owned half, and all of it on its way
    assert sharded <= 0.5 * once


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_bytes_sent_follow_the_formula(world, micro_batches):
    gpt, optimizer = make(4, world, micro_batches=micro_batches)
    tiny = sum(p.numel() for p in gpt.parameters() if is_tiny(p))
    dealt = sum(p.numel() for p in gpt.parameters() if not is_tiny(p))  # nothing is padded at this size
    share = 4 * dealt * (world - 1) // world
    assert optimizer.wire.sent["exchange"] == micro_batches * share
    assert optimizer.wire.sent["all_gather"] == share + micro_batches * 4 * tiny * (world - 1)
    _gpt, halved = make(4, world, gather_dtype=torch.bfloat16)
    assert halved.wire.sent["all_gather"] == share // 2 + 4 * tiny * (world - 1)


def test_most_of_the_matrices_are_on_their_way_before_backward_ends():
    """Depth 8, 2 ranks: at least 80% of their bytes."""
    gpt, optimizer = make(8, 2)
    order = []
    plain = type(optimizer.reducer.buckets[0]).reduce
    for bucket in optimizer.reducer.buckets:
        bucket.reduce = lambda ordered, bucket=bucket: (order.append(bucket), plain(bucket, ordered))
    ids = torch.randint(0, 1000, (1, 33))
    optimizer.reducer.begin(last=True)
    gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
    matrices = [b for b in optimizer.reducer.buckets if b.parameters[0].dim() >= 2 and not is_tiny(b.parameters[0])]
    matrices = [b for b in matrices if any(p in set(gpt.blocks.parameters()) for p in b.parameters)]
    launched = sum(bucket.weights.nbytes for bucket in order if bucket in matrices)
    assert launched >= 0.8 * sum(bucket.weights.nbytes for bucket in matrices)


def test_progressions_only():
    assert list(range(10))[progression([1, 4, 7])] == [1, 4, 7] and list(range(4))[progression([2])] == [2]
    with pytest.raises(ValueError, match="not evenly spaced"):
        progression([0, 1, 3])
