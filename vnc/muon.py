"""The update rules, as pure arithmetic on tensors: Muon for matrices, AdamW for everything else.

Muon (Keller Jordan, 2024) takes the momentum of a matrix's gradient and replaces it by the nearest matrix whose
singular values are all one, so that every direction of the matrix learns at the same pace. The steps of one update, in
the order in which `muon_update` calls them:

    nesterov            the momentum, looking one step ahead
    equilibrate_rows    every row gets the mean row norm, which evens out the spectrum (arXiv 2603.28254)
    orthogonalize       U S V^T -> U V^T, nearly, by five polynomial steps (Polar Express, arXiv 2505.16932)
    renormalize         Frobenius norm exactly sqrt(min(rows, cols)) (arXiv 2602.21545)
    reduce_variance     neurons whose updates keep being large take smaller ones (arXiv 2510.05491)
    apply_update        step, with cautious weight decay: only where it pulls the same way as the update

All matrices are stacked: (k, rows, cols).
"""

from __future__ import annotations

import torch
from torch.optim.adamw import adamw

from vnc.c import muon as c_muon

# Five steps, safety factor 2e-2, cushion 2, as published with arXiv 2505.16932.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)

SAFETY = 1.01  # an upper bound of the largest singular value is made this much larger


def norm(matrices: torch.Tensor, dim: int | tuple[int, ...]) -> torch.Tensor:
    """Euclidean norm over `dim`, kept as size 1, in fp32 or better."""
    dtype = torch.promote_types(matrices.dtype, torch.float32)
    found: torch.Tensor = torch.linalg.vector_norm(matrices, dim=dim, keepdim=True, dtype=dtype)
    return found


def nesterov(gradient: torch.Tensor, momentum: torch.Tensor, coefficient: float) -> torch.Tensor:
    """Update the running mean `momentum` in place and return gradient and momentum blended by `coefficient`."""
    momentum.lerp_(gradient, 1 - coefficient)
    return torch.lerp(gradient, momentum, coefficient)


def equilibrate_rows(matrices: torch.Tensor) -> torch.Tensor:
    """Scale each row to the root mean square of the matrix's row norms."""
    rows = norm(matrices, -1)
    target = rows.square().mean(dim=-2, keepdim=True).sqrt()
    return matrices * (target / rows.clamp(min=1e-6)).to(matrices.dtype)


def orthogonalize(
    matrices: torch.Tensor,
    coefficients: tuple[tuple[float, float, float], ...] = POLAR_EXPRESS,
    safety: float = SAFETY,
) -> torch.Tensor:
    """Push all singular values towards 1 by odd quintic polynomials a x + b x^3 + c x^5, one step for each triple."""
    return polynomials(matrices / (norm(matrices, (-2, -1)) * safety + 1e-6).to(matrices.dtype), coefficients)


def polynomials(
    matrices: torch.Tensor, coefficients: tuple[tuple[float, float, float], ...] = POLAR_EXPRESS
) -> torch.Tensor:
    """The steps of `orthogonalize`, for matrices whose singular values are below 1.

    X becomes (a I + b G + c G G) X with the Gram matrix G = X X^T of the shorter side. For wide matrices the last two
    steps work on G alone, which is small, and X is multiplied once, by the product of their factors: a factor R turns G
    into R G R. The products run in the dtype of `matrices`. In bf16 that would lose the small singular values, which
    are squares in G, if it began earlier: after three steps of Polar Express they are large (docs/LOG.md).
    """
    x = matrices.mT if matrices.size(-2) > matrices.size(-1) else matrices
    on_gram = 2 if 2 * x.size(-1) > 3 * x.size(-2) else 0  # below, more is multiplied than saved
    plain = max(0, len(coefficients) - on_gram)
    for a, b, c in coefficients[:plain]:  # a X apart, where bf16 does not round it
        x = torch.baddbmm(x, _squares(torch.bmm(x, x.mT), b, c), x, beta=a)
    if rest := coefficients[plain:]:
        gram = torch.bmm(x, x.mT)
        product = factor = _factor(gram, *rest[0])
        for triple in rest[1:]:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
            factor = _factor(gram, *triple)
            product = torch.bmm(factor, product)
        x = torch.bmm(product, x)
    return x.mT if matrices.size(-2) > matrices.size(-1) else x


def _squares(gram: torch.Tensor, b: float, c: float) -> torch.Tensor:
    """b G + c G G."""
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


def _factor(gram: torch.Tensor, a: float, b: float, c: float) -> torch.Tensor:
    """a I + b G + c G G."""
    factor = _squares(gram, b, c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def renormalize(matrices: torch.Tensor) -> torch.Tensor:
    """Scale each matrix to the Frobenius norm of an exactly semi-orthogonal one."""
    target: float = min(matrices.size(-2), matrices.size(-1)) ** 0.5
    return matrices * (target / norm(matrices, (-2, -1)).clamp(min=1e-6)).to(matrices.dtype)


def variance_shape(rows: int, cols: int) -> tuple[int, int]:
    """Shape of a matrix's running second moment: one number for each row of a tall one, each column of a wide one."""
    return (rows, 1) if rows >= cols else (1, cols)


def reduce_variance(update: torch.Tensor, second_moment: torch.Tensor, beta2: float) -> torch.Tensor:
    """Divide each neuron's update by the root of its running mean square, keeping the matrix's norm.

    `second_moment` (see `variance_shape`) is updated in place.
    """
    dim = -1 if update.size(-2) >= update.size(-1) else -2
    mean_square = update.square().mean(dim=dim, keepdim=True)
    second_moment.lerp_(mean_square, 1 - beta2)
    scale = second_moment.clamp(min=1e-10).rsqrt()
    before = mean_square.sum(dim=(-2, -1), keepdim=True)
    after = (mean_square * scale.square()).sum(dim=(-2, -1), keepdim=True)
    return update * (scale * (before / after.clamp(min=1e-20)).sqrt())


def apply_update(weights: torch.Tensor, update: torch.Tensor, lr: float, weight_decay: float) -> None:
    """weights -= lr * (update + decay * weights where update and weights have the same sign), in place."""
    if weight_decay:
        agreeing = (update * weights).ge_(0)
        update = torch.addcmul(update, agreeing, weights, value=weight_decay)
    weights.sub_(update, alpha=lr)


@torch.no_grad()
def muon_update(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    momentum: torch.Tensor,
    second_moment: torch.Tensor,
    *,
    lr: float,
    momentum_coefficient: float,
    beta2: float,
    weight_decay: float,
    compute_dtype: torch.dtype,
    heads: int = 1,
) -> None:
    """One Muon step on stacked matrices, in place on weights, momentum and second moment.

    weights, gradient, momentum: (..., rows, cols) fp32, second_moment: (..., *variance_shape(rows, cols)); views with
    gaps between the matrices are welcome. `lr` is multiplied by sqrt(max(1, rows / cols)), so that tall
    matrices change their outputs as much as square ones. Orthogonalisation runs in `compute_dtype`, of each of `heads`
    equal blocks of rows by itself: heads with small gradients learn as fast as those with large ones, and a block's
    Gram matrix is small (arXiv 2607.24653, section 2.5; arXiv 2602.15763).
    """
    rows, cols = weights.shape[-2:]
    step_size = lr * max(1.0, rows / cols) ** 0.5
    if c_muon.runs_in_c(weights, compute_dtype):
        blocks = c_muon.begin(gradient, momentum, momentum_coefficient, heads, SAFETY, compute_dtype)
        c_muon.end(polynomials(blocks), weights, second_moment, heads, step_size, beta2, weight_decay)
        return
    update = nesterov(gradient, momentum, momentum_coefficient).to(compute_dtype)
    blocks = equilibrate_rows(update.reshape(-1, rows // heads, cols))
    update = renormalize(orthogonalize(blocks)).reshape(update.shape)
    # A tall matrix comes out as the transpose of a wide one: laid out like the weights, what follows is twice as fast.
    update = torch.empty(weights.shape, dtype=weights.dtype, device=weights.device).copy_(update)
    update = reduce_variance(update, second_moment, beta2)
    apply_update(weights, update, step_size, weight_decay)


@torch.no_grad()
def adamw_update(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """One AdamW step (arXiv 1711.05101) in place on weights and both moments, by torch's kernel that makes it in one
    pass. `step` counts from 1."""
    beta1, beta2 = betas
    steps = torch.full((), step - 1.0, device=weights.device)  # made there: a copy would wait for the device
    adamw(
        [weights], [gradient], [exp_avg], [exp_avg_sq], [], [steps],
        fused=True, amsgrad=False, maximize=False, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
    )  # fmt: skip
