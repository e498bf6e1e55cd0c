/* What training does between matrix products on a CPU, each function one pass over its tensors: vnc/elementwise.py and
   vnc/loss.py say what is computed, and compute the same by torch's operations where there is no compiler.

   Tensors are contiguous, of numbers; statistics and all arithmetic are fp32, rounded once. Each row is worked on by
   one thread in one order, so no result depends on their number. Functions return 0, or 1 if there was not enough
   memory. */

#include "heads.h"

/* gradient, y and x (n): the gradient x of what was normalised to y: what is along y has no effect. */
static inline void norm_backward(const float *gradient, const float *y, float scale, float *x, long n) {
    float along = 0;
#pragma omp simd reduction(+ : along)
    for (long i = 0; i < n; i++) along += gradient[i] * y[i];
    along /= n;
    for (long i = 0; i < n; i++) x[i] = scale * (gradient[i] - along * y[i]);
}

static inline void widen(const number *x, float *y, long n) {
    for (long i = 0; i < n; i++) y[i] = wide(x[i]);
}

static inline void narrow(const float *x, number *y, long n) {
    for (long i = 0; i < n; i++) y[i] = rounded(x[i]);
}

/* x (rows, n) -> y, and what each row was multiplied by. */
int rms_norm(const number *x, number *y, float *scale, long rows, long n, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++) {
        float own[n];
        widen(x + row * n, own, n);
        const float factor = scale[row] = inverse_rms(own, n);
        for (long i = 0; i < n; i++) own[i] *= factor;
        narrow(own, y + row * n, n);
    }
    return 0;
}

int rms_norm_backward(const number *gradient, const number *y, const float *scale, number *x, long rows, long n,
                      int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++) {
        float own[n], result[n];
        widen(gradient + row * n, own, n);
        widen(y + row * n, result, n);
        norm_backward(own, result, scale[row], result, n);
        narrow(result, x + row * n, n);
    }
    return 0;
}

#define PIECE 4096 /* of a tensor without rows */
#define TOKENS 32  /* whose heads stay in a core's cache: on one side they lie together, on the other apart */

int squared_relu(const number *restrict x, number *restrict y, long n, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long start = 0; start < n; start += PIECE) {
        const long end = n < start + PIECE ? n : start + PIECE;
        for (long i = start; i < end; i++) {
            const float value = wide(x[i]);
            y[i] = rounded(value < 0 ? 0 : value * value);
        }
    }
    return 0;
}

int squared_relu_backward(const number *restrict gradient, const number *restrict x, number *restrict result, long n,
                          int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long start = 0; start < n; start += PIECE) {
        const long end = n < start + PIECE ? n : start + PIECE;
        for (long i = start; i < end; i++) {
            const float value = wide(x[i]), slope = value < 0 ? 0 : 2 * value;
            result[i] = rounded(slope * wide(gradient[i]));
        }
    }
    return 0;
}

/* qkv (B, T, 3, H, D) -> queries and keys qk (2, B, H, T, D), turned and normalised, and what each was multiplied by
   (2, B, H, T). cos, sin: (T, D / 2), or NULL; those of another row of the batch lie `apart` numbers away. scale: NULL
   where nothing is normalised. */
int heads(const number *qkv, const float *cos, const float *sin, long apart, number *qk, float *scale, long B, long T,
          long H, long D, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (long b = 0; b < B; b++)
        for (long start = 0; start < T; start += TOKENS)
            for (long head = 0; head < 2 * H; head++)
                for (long t = start; t < (T < start + TOKENS ? T : start + TOKENS); t++) {
                    const long to = ((head / H * B + b) * H + head % H) * T + t;
                    float x[D];
                    widen(qkv + ((b * T + t) * 3 * H + head) * D, x, D);
                    if (cos) turn(x, cos + b * apart + t * D / 2, sin + b * apart + t * D / 2, 1, D);
                    if (scale) {
                        const float factor = scale[to] = inverse_rms(x, D);
                        for (long i = 0; i < D; i++) x[i] *= factor;
                    }
                    narrow(x, qk + to * D, D);
                }
    return 0;
}

/* The gradient of qkv from those of queries and keys, (B, H, T, D) each, and values (B, T, H, D). */
int heads_backward(const number *of_q, const number *of_k, const number *of_v, const number *qk, const float *scale,
                   const float *cos, const float *sin, long apart, number *result, long B, long T, long H, long D,
                   int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (long b = 0; b < B; b++)
        for (long start = 0; start < T; start += TOKENS) {
            const long end = T < start + TOKENS ? T : start + TOKENS;
            for (long head = 0; head < 2 * H; head++)
                for (long t = start; t < end; t++) {
                    const long own = (b * H + head % H) * T + t, from = head / H * B * H * T + own;
                    float x[D], y[D];
                    widen((head < H ? of_q : of_k) + own * D, x, D);
                    if (scale) {
                        widen(qk + from * D, y, D);
                        norm_backward(x, y, scale[from], x, D);
                    }
                    if (cos) turn(x, cos + b * apart + t * D / 2, sin + b * apart + t * D / 2, -1, D);
                    narrow(x, result + ((b * T + t) * 3 * H + head) * D, D);
                }
            for (long t = start; t < end; t++)
                memcpy(result + ((b * T + t) * 3 + 2) * H * D, of_v + (b * T + t) * H * D, H * D * sizeof(number));
        }
    return 0;
}

/* The loss of each token from its logits (tokens, columns), and with want_gradient the gradient of the losses' sum in
   the logits' place. capped: cap * tanh(logit / cap); cap 0: not capped. A target below 0 counts nothing. */
int cross_entropy(number *logits, const int64_t *targets, float *losses, long tokens, long columns, float cap,
                  float z_loss, int want_gradient, int threads) {
    const long room = whole(columns, WIDTH);
    const int shifted = cap == 0 || cap > 30; /* else no logit is far below the cap, which is taken off instead */
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *tanhs = malloc(2 * room * sizeof(float)), *shares = tanhs + room;
        failed = !tanhs;
#pragma omp for schedule(static)
        for (long token = 0; token < tokens; token++) {
            if (failed) continue;
            number *own = logits + token * columns;
            const long target = targets[token];
            widen(own, shares, columns);
            for (long i = columns; i < room; i++) shares[i] = -INFINITY;
            if (cap != 0)
                for (long i = 0; i < room; i += WIDTH) {
                    const vec x = *(vec *)(shares + i) * (1 / cap), size = choose(below(x, 0), -x, x),
                              e = exponential(-2 * size);
                    const vec tanh = (1 - e) / (1 + e);
                    *(vec *)(tanhs + i) = choose(below(x, 0), -tanh, tanh);
                    *(vec *)(shares + i) = cap * *(vec *)(tanhs + i);
                }
            float highest = cap, total = 0;
            if (shifted) {
                highest = -INFINITY;
#pragma omp simd reduction(max : highest)
                for (long i = 0; i < columns; i++) highest = shares[i] > highest ? shares[i] : highest;
            }
            const float at_target = target < 0 ? 0 : shares[target];
            for (long i = 0; i < room; i += WIDTH) *(vec *)(shares + i) = exponential(*(vec *)(shares + i) - highest);
#pragma omp simd reduction(+ : total)
            for (long i = 0; i < columns; i++) total += shares[i];
            const float log_sum = logf(total) + highest;
            losses[token] = target < 0 ? 0 : log_sum - at_target + z_loss * log_sum * log_sum;
            if (!want_gradient) continue;
            const float factor = target < 0 ? 0 : (1 + 2 * z_loss * log_sum) / total;
            for (long i = 0; i < columns; i++) shares[i] *= factor;
            if (target >= 0) shares[target] -= 1;
            if (cap != 0)
                for (long i = 0; i < columns; i++) shares[i] *= 1 - tanhs[i] * tanhs[i];
            narrow(shares, own, columns);
        }
        free(tanhs);
    }
    return failed;
}
