/* Products of a few rows, or many, with a matrix that lies in panels of COLUMNS outputs. */

#include "numbers.h"

#if __AVX512F__
#define VECTORS 4 /* of sums in a row of a panel */
#else
#define VECTORS 2
#endif
#define COLUMNS (WIDTH * VECTORS)
#define TOGETHER 6 /* rows that share a reading of a panel: 24 vectors of sums in 32 registers, or 12 in 16 */
#define LINE 64    /* bytes of a cache line */
#define AHEAD 4096 /* bytes between what is read and what is asked for */

typedef struct {
    const number *weights; /* (out / COLUMNS, in / PAIR, COLUMNS, PAIR), padded with zeros */
    const float *bias;     /* (out), padded like weights; or NULL */
    long in, out;
} Matrix;

/* Where the rows of a left factor lie: row r, and its inputs from i on, a PAIR at a time. */
typedef struct {
    const number *start;
    long row, pair; /* from one to the next */
} Left;

/* sums (rows, COLUMNS) = x (rows, in) times one panel, whose next PAIR of inputs begins `step` numbers further on. All
   loops but that over inputs are unrolled early, or gcc 11 keeps the sums in memory. */
static inline __attribute__((always_inline)) void tile(const int rows, const number *panel, long step, Left x, long in,
                                                       vec (*sums)[VECTORS]) {
    vec sum[TOGETHER][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < VECTORS; c++) sum[r][c] = (vec){};
    for (long i = 0; i < in; i += PAIR, panel += step, x.start += x.pair) {
        factors weights[VECTORS];
#pragma GCC unroll 4
        for (int c = 0; c < VECTORS; c++) {
            weights[c] = load(panel + c * PAIR * WIDTH);
            __asm__("" : "+v"(weights[c])); /* in a register: gcc would read it again for each row */
            /* Several rows take longer to multiply than to read, so memory would rest meanwhile. */
            if (rows > 2 && c * sizeof(vec) % LINE == 0)
                __builtin_prefetch((const char *)(panel + c * PAIR * WIDTH) + AHEAD);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int c = 0; c < VECTORS; c++) sum[r][c] = multiply(sum[r][c], weights[c], x.start + r * x.row);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < VECTORS; c++) sums[r][c] = sum[r][c];
}

/* The same for up to TOGETHER rows: sums stay in registers where the compiler knows their number. */
static void tiles(long rows, const number *panel, long step, Left x, long in, vec (*sums)[VECTORS]) {
    switch (rows) {
        case 1: return tile(1, panel, step, x, in, sums);
        case 2: return tile(2, panel, step, x, in, sums);
        case 3: return tile(3, panel, step, x, in, sums);
        case 4: return tile(4, panel, step, x, in, sums);
        case 5: return tile(5, panel, step, x, in, sums);
        default: return tile(TOGETHER, panel, step, x, in, sums);
    }
}

typedef enum { STORE, ADD, SQUARED_RELU, GELU } Then; /* what becomes of a product; after the last two it is rounded */

static inline void finish(Then then, vec *sums, const float *bias, void *result, long columns) {
    float *full = result, *sum = (float *)sums;
    number *narrow = result;
    for (int c = 0; c < VECTORS; c++) {
        vec x = sums[c] + (bias ? *(const vec *)(bias + c * WIDTH) : (vec){});
        if (then == SQUARED_RELU) x = choose(below(x, 0), (vec){}, x * x);
        if (then == GELU) x *= sigmoids(1.5957691f * (x + 0.044715f * x * x * x)); /* its form with tanh */
        sums[c] = x;
    }
    if (then == STORE)
        for (long i = 0; i < columns; i++) full[i] = sum[i];
    else if (then == ADD)
        for (long i = 0; i < columns; i++) full[i] += sum[i];
    else
        for (long i = 0; i < columns; i++) narrow[i] = rounded(sum[i]);
}

/* x (n, in) -> result (n, out). Called by each thread: `omp for` shares the panels out, and waits at its end. */
static inline void product(const Matrix *matrix, const number *x, long n, Then then, void *result) {
    const long in = matrix->in, out = matrix->out, size = then <= ADD ? sizeof(float) : sizeof(number);
    const long turns = whole(n, TOGETHER) / TOGETHER, some = n ? (n + turns - 1) / turns : 1; /* 8 rows are 4 and 4 */
#pragma omp for schedule(static)
    for (long first = 0; first < out; first += COLUMNS) {
        const number *panel = matrix->weights + first * in;
        const float *bias = matrix->bias ? matrix->bias + first : NULL;
        const long columns = out - first < COLUMNS ? out - first : COLUMNS;
        vec sums[TOGETHER][VECTORS];
        for (long done = 0; done < n; done += some) {
            const long rows = n - done < some ? n - done : some;
            tiles(rows, panel, PAIR * COLUMNS, (Left){x + done * in, in, PAIR}, in, sums);
            for (long r = 0; r < rows; r++)
                finish(then, sums[r], bias, (char *)result + ((done + r) * out + first) * size, columns);
        }
    }
}
