"""The update rules against independent ones: SVD, torch.optim.Muon, torch.optim.AdamW, and plain loops."""

import pytest
import torch

from vnc import muon
from vnc.c import muon as c_muon
from vnc.c.library import library


def polar_factor(matrix):
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 96, 24), (2, 24, 96)])
def test_orthogonalize_approaches_the_polar_factor(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    found = muon.orthogonalize(matrices)
    singular = torch.linalg.svdvals(found)
    # Five steps of the published coefficients bring singular values of random matrices to about 1.
    assert singular.max() < 1.15 and singular.median() == pytest.approx(1, abs=0.12)
    for one, exact in zip(found, map(polar_factor, matrices), strict=True):
        cosine = (one * exact).sum() / (one.norm() * exact.norm())
        assert cosine > 0.98


def test_orthogonalize_keeps_singular_vectors():
    torch.manual_seed(1)
    matrix = torch.randn(1, 16, 40, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix[0], full_matrices=False)
    middle = u.T @ muon.orthogonalize(matrix)[0] @ v.T
    assert torch.allclose(middle, torch.diag(torch.diagonal(middle)), atol=1e-9)


def test_tall_and_wide_are_transposes():
    torch.manual_seed(2)
    matrix = torch.randn(2, 12, 30, dtype=torch.float64)
    assert torch.allclose(muon.orthogonalize(matrix).mT, muon.orthogonalize(matrix.mT))


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_plain_path_equals_torch_muon(shape):
    """Nesterov momentum and orthogonalisation alone, with torch's one triple of coefficients and its bf16 products."""
    torch.manual_seed(3)
    coefficients, momentum, lr = (3.4445, -4.775, 2.0315), 0.95, 0.02
    start = torch.randn(shape)
    parameter = torch.nn.Parameter(start.clone())
    theirs = torch.optim.Muon([parameter], lr=lr, weight_decay=0.0, momentum=momentum, nesterov=True,
                              ns_coefficients=coefficients, ns_steps=5, eps=1e-7, adjust_lr_fn="original")  # fmt: skip
    ours, buffer = start.clone()[None], torch.zeros(1, *shape)
    for _ in range(4):
        gradient = torch.randn(shape)
        parameter.grad = gradient.clone()
        theirs.step()
        update = muon.nesterov(gradient[None], buffer, momentum).bfloat16()
        update = muon.orthogonalize(update, (coefficients,) * 5, safety=1.0).float()
        muon.apply_update(ours, update, lr * max(1.0, shape[0] / shape[1]) ** 0.5, 0.0)
    moved = (parameter.data - start).norm()
    assert (ours[0] - parameter.data).norm() < 0.02 * moved  # two orders of bf16 rounding


def test_equilibrated_rows_have_one_norm_and_keep_the_matrix_norm():
    torch.manual_seed(4)
    matrix = torch.randn(2, 8, 20) * torch.arange(1.0, 9.0)[:, None]
    equal = muon.equilibrate_rows(matrix)
    norms = equal.norm(dim=-1)
    assert torch.allclose(norms, norms[:, :1].expand_as(norms), rtol=1e-5)
    assert torch.allclose(equal.norm(dim=(-2, -1)), matrix.norm(dim=(-2, -1)), rtol=1e-5)


def test_renormalized_norm_is_that_of_a_semi_orthogonal_matrix():
    matrix = torch.randn(3, 8, 20)
    assert torch.allclose(muon.renormalize(matrix).norm(dim=(-2, -1)), torch.tensor(8.0**0.5), rtol=1e-5)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20)])
def test_variance_reduction_by_plain_loops(shape):
    torch.manual_seed(5)
    update, beta2 = torch.randn(1, *shape, dtype=torch.float64), 0.9
    second = torch.rand(1, *muon.variance_shape(*shape), dtype=torch.float64)
    expected_second = second.clone()
    lines = update[0] if shape[0] >= shape[1] else update[0].T
    scaled = torch.empty_like(lines)
    for i, line in enumerate(lines):
        running = expected_second.flatten()[i] * beta2 + (1 - beta2) * line.square().mean()
        expected_second.view(-1)[i] = running
        scaled[i] = line / running.sqrt()
    scaled *= lines.norm() / scaled.norm()
    found = muon.reduce_variance(update, second, beta2)[0]
    assert torch.allclose(found if shape[0] >= shape[1] else found.T, scaled)
    assert torch.allclose(second, expected_second)


def test_cautious_decay_pulls_only_where_update_and_weight_agree():
    weights = torch.tensor([[[2.0, -2.0, 2.0, -2.0]]])
    muon.apply_update(weights, torch.tensor([[[1.0, 1.0, -1.0, -1.0]]]), lr=0.1, weight_decay=0.5)
    assert torch.allclose(weights, torch.tensor([[[2 - 0.1 - 0.1, -2.1, 2.1, -2 + 0.1 + 0.1]]]))


def test_each_head_is_orthogonalized_by_itself():
    torch.manual_seed(7)
    gradient, decided = torch.randn(2, 12, 40, dtype=torch.float64), []
    gradient[:, :4] += torch.randn(2, 1, 40)  # rows of one head alike: another spectrum than its neighbours'
    for heads in (1, 3):
        weights, second = torch.zeros(2, 12, 40, dtype=torch.float64), torch.zeros(2, 1, 40, dtype=torch.float64)
        muon.muon_update(weights, gradient, torch.zeros_like(weights), second, lr=1.0, momentum_coefficient=0.0,
                         beta2=0.0, weight_decay=0.0, compute_dtype=torch.float64, heads=heads)  # fmt: skip
        blocks = muon.equilibrate_rows(gradient.reshape(-1, 12 // heads, 40))
        alone = torch.cat([muon.renormalize(muon.orthogonalize(block[None])) for block in blocks])
        whole = muon.reduce_variance(alone.view(2, 12, 40), torch.zeros_like(second), 0.0)
        assert torch.allclose(weights, -whole)
        decided.append(weights)
    assert not torch.allclose(*decided, rtol=0.1)


def muon_steps(shape, heads, compute_dtype, steps=3, seed=8, weight_decay=0.3):
    """Weights and state after some steps on stacked matrices with gaps between them."""
    generator = torch.Generator().manual_seed(seed)
    rows, cols = shape
    buffers = [torch.randn(2, 3, 5 * rows * cols, generator=generator) for _ in range(3)]
    weights, momentum, gradient = (buffer[:, ::2, : rows * cols].unflatten(-1, shape) for buffer in buffers)
    second = torch.rand(2, 2, *muon.variance_shape(rows, cols), generator=generator)
    for _ in range(steps):
        gradient.normal_(generator=generator)
        gradient[..., :2, :] *= 30  # rows unlike the others
        muon.muon_update(weights, gradient, momentum, second, lr=0.1, momentum_coefficient=0.9, beta2=0.9,
                         weight_decay=weight_decay, compute_dtype=compute_dtype, heads=heads)  # fmt: skip
    return weights.clone(), momentum.clone(), second


SHAPES = [((24, 24), 1), ((24, 24), 3), ((96, 24), 1), ((24, 96), 1), ((24, 130), 2), ((7, 5), 1)]
needs_c = pytest.mark.skipif(library("muon", torch.float32) is None, reason="no C compiler here, or a CPU without AVX2")
needs_c_in_bf16 = pytest.mark.skipif(
    library("muon", torch.bfloat16) is None, reason="no C compiler here, or a CPU without AVX512-BF16"
)


@needs_c
@pytest.mark.parametrize("shape, heads", SHAPES)
def test_the_update_in_c_equals_that_by_torch(shape, heads, monkeypatch):
    """Whether a weight decays hangs on the sign of its update, which is any where that is all but 0."""
    start, _, _ = muon_steps(shape, heads, torch.float32, 0)
    found, (decayed, _, _) = (muon_steps(shape, heads, torch.float32, weight_decay=0.0),
                              muon_steps(shape, heads, torch.float32, 1))  # fmt: skip
    monkeypatch.setattr(c_muon, "library", lambda *page: None)
    for mine, theirs in zip(found, muon_steps(shape, heads, torch.float32, weight_decay=0.0), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    sure = (muon_steps(shape, heads, torch.float32, 1, weight_decay=0.0)[0] - start).abs() > 1e-5
    assert sure.float().mean() > 0.99
    theirs, _, _ = muon_steps(shape, heads, torch.float32, 1)
    torch.testing.assert_close(decayed[sure], theirs[sure], rtol=1e-4, atol=1e-5)


@needs_c_in_bf16
@pytest.mark.parametrize("shape, heads", SHAPES)
def test_in_bf16_the_update_in_c_is_as_near_to_that_of_fp32_as_torchs(shape, heads, monkeypatch):
    """The share of one update that is off, on average over some draws."""
    in_c, by_torch, exact = [], [], []
    for route in (in_c, by_torch):
        for seed in range(8):
            start, _, _ = muon_steps(shape, heads, torch.bfloat16, 0, seed)
            route.append(muon_steps(shape, heads, torch.bfloat16, 1, seed)[0] - start)
            exact.append(muon_steps(shape, heads, torch.float32, 1, seed)[0] - start)
        monkeypatch.setattr(c_muon, "library", lambda *page: None)
    off, allowed = (
        sum(((found - truth).norm() / truth.norm()).item() for found, truth in zip(route, exact[8:], strict=True))
        for route in (in_c, by_torch)
    )
    assert 0 < off < 1.1 * allowed


@pytest.mark.parametrize(
    "compute_dtype", [pytest.param(torch.float32, marks=needs_c), pytest.param(torch.bfloat16, marks=needs_c_in_bf16)]
)
def test_not_one_bit_of_what_c_does_depends_on_threads_or_on_other_matrices(compute_dtype, monkeypatch):
    monkeypatch.setattr(muon, "polynomials", lambda blocks: blocks)  # torch's products do, in fp32
    generator, found = torch.Generator().manual_seed(9), []
    given = [torch.randn(3, 24, 40, generator=generator) for _ in range(3)] + [torch.rand(3, 1, 40)]
    before = torch.get_num_threads()
    for threads, stacks in ((1, [slice(0, 3)]), (2, [slice(0, 3)]), (3, [slice(0, 1), slice(1, 3)])):
        torch.set_num_threads(threads)
        weights, gradient, momentum, second = (each.clone() for each in given)
        for some in stacks:
            muon.muon_update(weights[some], gradient[some], momentum[some], second[some], lr=0.1, beta2=0.9,
                             momentum_coefficient=0.9, weight_decay=0.3, compute_dtype=compute_dtype)  # fmt: skip
        found.append((weights, momentum, second))
    torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def test_muon_update_of_a_gradient_that_is_not_a_number_shows(route):
    weights, gradient = torch.randn(2, 8, 8), torch.randn(2, 8, 8)
    gradient[1, 2, 3] = torch.nan
    muon.muon_update(weights, gradient, torch.zeros(2, 8, 8), torch.zeros(2, 8, 1), lr=0.02, momentum_coefficient=0.9,
                     beta2=0.9, weight_decay=0.1, compute_dtype=torch.float32)  # fmt: skip
    assert weights[0].isfinite().all() and weights[1].isnan().any()


def test_muon_update_of_a_zero_gradient_is_finite(route):
    weights = torch.randn(2, 8, 8)
    muon.muon_update(weights, torch.zeros(2, 8, 8), torch.zeros(2, 8, 8), torch.zeros(2, 8, 1), lr=0.02,
                     momentum_coefficient=0.9, beta2=0.9, weight_decay=0.1, compute_dtype=torch.float32)  # fmt: skip
    assert torch.isfinite(weights).all()


def test_adamw_equals_torch():
    torch.manual_seed(6)
    start = torch.randn(50, 7)
    parameter = torch.nn.Parameter(start.clone())
    theirs = torch.optim.AdamW([parameter], lr=0.01, betas=(0.8, 0.96), eps=1e-10, weight_decay=0.1, foreach=False)
    ours, first, second = start.clone(), torch.zeros(50, 7), torch.zeros(50, 7)
    for step in range(1, 6):
        gradient = torch.randn(50, 7)
        parameter.grad = gradient
        theirs.step()
        muon.adamw_update(
            ours, gradient, first, second, step=step, lr=0.01, betas=(0.8, 0.96), eps=1e-10, weight_decay=0.1
        )
        assert torch.allclose(ours, parameter.data, rtol=1e-5, atol=1e-7)
