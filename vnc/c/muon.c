/* What a Muon step does besides its matrix products, on a CPU: vnc/muon.py says what is computed, and computes the same
   by torch's operations where there is no compiler. Two calls, before the products and after them, make three passes
   over a matrix's numbers each, where torch makes a dozen and a half.

   Matrices are k of (rows, cols) each; weights and state are fp32 and lie anywhere, updates are numbers (k, rows,
   cols). Of a matrix, `heads` equal blocks of rows are orthogonalised by themselves. Sums have an order of their own,
   so nothing depends on the number of threads, nor on k. */

#include "numbers.h"

static inline float sum_of_squares(const number *x, long n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += wide(x[i]) * wide(x[i]);
    return sum;
}

/* Momentum in place, and updates: the gradient and the momentum blended, every row of a block as long as their root
   mean square, and the block a little shorter (by safety) than 1. Returns 0, or 1 if there was not enough memory. */
int muon_begin(const float *const *gradient, float *const *momentum, number *update, long k, long rows, long cols,
               long heads, float coefficient, float safety, int threads) {
    float *factors = malloc(k * rows * sizeof(float)); /* of rows: their squares first */
    if (!factors) return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long row = 0; row < k * rows; row++) {
            const float *g = gradient[row / rows] + row % rows * cols;
            float *m = momentum[row / rows] + row % rows * cols;
            number *to = update + row * cols;
            for (long i = 0; i < cols; i++) {
                m[i] += (1 - coefficient) * (g[i] - m[i]);
                to[i] = rounded(g[i] + coefficient * (m[i] - g[i]));
            }
            factors[row] = sum_of_squares(to, cols);
        }
#pragma omp for schedule(static)
        for (long block = 0; block < k * heads; block++) {
            const long size = rows / heads;
            float *own = factors + block * size, mean = 0, whole = 0;
            for (long i = 0; i < size; i++) mean += own[i] / size;
            for (long i = 0; i < size; i++) {
                const float length = sqrtf(own[i]), factor = sqrtf(mean) / (length < 1e-6f ? 1e-6f : length);
                whole += length * factor * length * factor;
                own[i] = factor;
            }
            for (long i = 0; i < size; i++) own[i] /= sqrtf(whole) * safety + 1e-6f;
        }
#pragma omp for schedule(static)
        for (long row = 0; row < k * rows; row++)
            for (long i = 0; i < cols; i++)
                update[row * cols + i] = rounded(wide(update[row * cols + i]) * factors[row]);
    }
    free(factors);
    return 0;
}

#define CHUNK 64 /* columns that one thread sums up */

/* Weights and the running mean squares of their lines in place, from updates whose blocks are nearly orthogonal. Lines
   are rows, or, of a wide matrix, columns. */
int muon_end(const number *update, float *const *weights, float *const *second, long k, long rows, long cols,
             long heads, float lr, float beta2, float decay, int threads) {
    const int tall = rows >= cols; /* or square */
    const long lines = tall ? rows : cols, size = rows / heads;
    float *of_rows = malloc(k * (rows + heads + lines) * sizeof(float)), *of_blocks = of_rows + k * rows,
          *of_lines = of_blocks + k * heads;
    if (!of_rows) return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long row = 0; row < k * rows; row++) of_rows[row] = sum_of_squares(update + row * cols, cols);
#pragma omp for schedule(static)
        for (long block = 0; block < k * heads; block++) { /* the norm of a semi-orthogonal matrix, over its own */
            float sum = 0;
            for (long i = 0; i < size; i++) sum += of_rows[block * size + i];
            const float norm = sqrtf(sum);
            of_blocks[block] = sqrtf(size < cols ? size : cols) / (norm < 1e-6f ? 1e-6f : norm);
        }
        if (tall) {
#pragma omp for schedule(static)
            for (long row = 0; row < k * rows; row++) {
                const float factor = of_blocks[row / size];
                of_lines[row] = of_rows[row] * factor * factor / cols;
            }
        } else {
#pragma omp for schedule(static) collapse(2)
            for (long each = 0; each < k; each++)
                for (long first = 0; first < cols; first += CHUNK) {
                    const long some = cols - first < CHUNK ? cols - first : CHUNK;
                    float sums[CHUNK] = {0};
                    for (long row = 0; row < rows; row++) {
                        const number *from = update + (each * rows + row) * cols + first;
                        const float factor = of_blocks[(each * rows + row) / size];
                        for (long i = 0; i < some; i++) sums[i] += wide(from[i]) * factor * wide(from[i]) * factor;
                    }
                    for (long i = 0; i < some; i++) of_lines[each * cols + first + i] = sums[i] / rows;
                }
        }
#pragma omp for schedule(static)
        for (long each = 0; each < k; each++) { /* lines' mean squares -> what lines are multiplied by */
            float *own = of_lines + each * lines, before = 0, after = 0;
            for (long i = 0; i < lines; i++) {
                second[each][i] += (1 - beta2) * (own[i] - second[each][i]);
                const float scale = 1 / sqrtf(second[each][i] < 1e-10f ? 1e-10f : second[each][i]);
                before += own[i];
                after += own[i] * scale * scale;
                own[i] = scale;
            }
            const float factor = sqrtf(before / (after < 1e-20f ? 1e-20f : after));
            for (long i = 0; i < lines; i++) own[i] *= factor;
        }
#pragma omp for schedule(static)
        for (long row = 0; row < k * rows; row++) {
            const long each = row / rows;
            const float factor = of_blocks[row / size] * (tall ? of_lines[row] : 1), *line = of_lines + each * cols;
            const number *from = update + row * cols;
            float *w = weights[each] + row % rows * cols;
            for (long i = 0; i < cols; i++) {
                const float step = wide(from[i]) * factor * (tall ? 1 : line[i]);
                w[i] -= lr * (step + (step * w[i] >= 0 ? decay * w[i] : 0));
            }
        }
    }
    free(of_rows);
    return 0;
}
