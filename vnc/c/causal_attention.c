/* Causal attention for training on a CPU, forward and backward, head by head: vnc/attention.py says what is computed.
   Query i sees the keys j with 0 <= i - j < window.

   Nothing of the size of all scores is kept for backward, which works them out again from the logarithms of their sums,
   as FlashAttention does (arXiv 2205.14135, 2307.08691); it has room for one head's gradients of scores. A head's
   tensors are put into panels (products.h) first, which takes a tenth of the time of its products. A head is worked on
   by one thread in one order, so no result depends on their number.

   Queries, keys and their gradients: (B, H, T, D), contiguous. The result and the gradient of values: (B, T, H, D),
   contiguous. Values and the gradient of the result lie wherever `Rows` says. Functions return 0, or 1 if there was not
   enough memory. */

#include "attention.h"

typedef struct {
    const number *start;
    long b, h, t; /* how far apart in each direction */
} Rows;

static inline const number *of(const Rows *rows, long task, long H) {
    return rows->start + task / H * rows->b + task % H * rows->h;
}

typedef struct {
    long B, H, T, D, window;
    float scale;
} Sizes;

static inline void *cleared(long bytes) {
    void *memory = aligned_alloc(64, whole(bytes, 64));
    return memory ? memset(memory, 0, whole(bytes, 64)) : NULL;
}

int attention(const Sizes *sizes, const number *q, const number *k, const Rows *v, number *out, float *log_sums,
              int threads) {
    const long H = sizes->H, T = sizes->T, D = sizes->D, slots = whole(T, COLUMNS), channels = whole(D, COLUMNS);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        number *keys = cleared(slots * (D + channels + TOGETHER) * sizeof(number));
        float *scores = cleared(TOGETHER * slots * sizeof(float));
        number *values = keys + slots * D, *shares = values + slots * channels;
        failed = !keys || !scores;
#pragma omp for schedule(static)
        for (long task = 0; task < sizes->B * H; task++) {
            if (failed) continue;
            const number *value = of(v, task, H);
            for (long t = 0; t < T; t++) {
                store_key(keys, t, k + (task * T + t) * D, D);
                store_value(values, t, value + t * v->t, D, channels);
            }
            for (long first = 0; first < T; first += TOGETHER) {
                const long some = T - first < TOGETHER ? T - first : TOGETHER;
                long from[TOGETHER], to[TOGETHER];
                number *found[TOGETHER];
                for (long t = 0; t < some; t++) {
                    to[t] = first + t + 1;
                    from[t] = to[t] > sizes->window ? to[t] - sizes->window : 0;
                    found[t] = out + ((task / H * T + first + t) * H + task % H) * D;
                }
                attend(some, q + (task * T + first) * D, keys, values, from, to, D, channels, sizes->scale, slots,
                       scores, shares, found, log_sums + task * T + first);
            }
        }
        free(keys);
        free(scores);
    }
    return failed;
}

/* What backward needs of one head: tensors as columns of panels (store_key) and as a panel's inputs (store_value). */
typedef struct {
    number *query_columns, *gradient_columns, *query_inputs, *gradient_inputs, *key_inputs;
    number *of_scores;      /* (keys, queries): their gradients, in panels of queries */
    number *shares, *parts; /* (TOGETHER, queries): weights of a few keys, and the gradients of their scores */
    float *scores, *of_shares, *log_sums, *along;
} Head;

/* The weights and the gradients of the scores of a few keys, for the queries from base to end. */
static void weigh(const Sizes *sizes, const Head *head, const number *keys, const number *values, long apart,
                  long first, long some, long base, long end, long room) {
    vec sums[TOGETHER][VECTORS];
    for (long query = base; query < end; query += COLUMNS) {
        tiles(some, head->query_columns + query * sizes->D, PAIR * COLUMNS, (Left){keys, sizes->D, PAIR}, sizes->D,
              sums);
        for (long r = 0; r < some; r++) memcpy(head->scores + r * room + query, sums[r], sizeof sums[r]);
        tiles(some, head->gradient_columns + query * sizes->D, PAIR * COLUMNS, (Left){values, apart, PAIR}, sizes->D,
              sums);
        for (long r = 0; r < some; r++) memcpy(head->of_shares + r * room + query, sums[r], sizeof sums[r]);
    }
    for (long r = 0; r < some; r++) {
        const float *score = head->scores + r * room, *of_share = head->of_shares + r * room;
        const long key = first + r, last = key + sizes->window < sizes->T ? key + sizes->window : sizes->T;
        for (long i = base; i < end; i += WIDTH) {
            const vec share = exponential(*(const vec *)(score + i) * sizes->scale - *(vec *)(head->log_sums + i));
            const mask seen = lanes(key - i, last - i);
            const vec part = share * (*(const vec *)(of_share + i) - *(vec *)(head->along + i)) * sizes->scale;
            store_rounded(head->shares + r * room + i, choose(seen, share, (vec){}));
            store_rounded(head->parts + r * room + i, choose(seen, part, (vec){}));
        }
    }
}

/* x (some, size) times a panel's inputs (size, D) -> rows of the result, `apart` from each other. */
static void multiply_rows(Left x, const number *inputs, long some, long size, long D, long channels, number *result,
                          long apart) {
    vec sums[TOGETHER][VECTORS];
    for (long first = 0; first < D; first += COLUMNS) {
        const long columns = D - first < COLUMNS ? D - first : COLUMNS;
        tiles(some, inputs + first * PAIR, channels * PAIR, x, size, sums);
        for (long r = 0; r < some; r++)
            for (long i = 0; i < columns; i++) result[r * apart + first + i] = rounded(((float *)sums[r])[i]);
    }
}

int attention_backward(const Sizes *sizes, const Rows *gradient, const number *q, const number *k, const Rows *v,
                       const number *out, const float *log_sums, number *of_q, number *of_k, number *of_v,
                       int threads) {
    const long H = sizes->H, T = sizes->T, D = sizes->D, slots = whole(T, COLUMNS), channels = whole(D, COLUMNS);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        number *narrow = cleared(slots * (2 * D + 3 * channels + slots + 2 * TOGETHER) * sizeof(number));
        float *full = cleared(slots * (2 * TOGETHER + 2) * sizeof(float));
        Head head = {
            .query_columns = narrow, .gradient_columns = narrow + slots * D, .query_inputs = narrow + slots * 2 * D};
        head.gradient_inputs = head.query_inputs + slots * channels;
        head.key_inputs = head.gradient_inputs + slots * channels;
        head.of_scores = head.key_inputs + slots * channels;
        head.shares = head.of_scores + slots * slots;
        head.parts = head.shares + TOGETHER * slots;
        head.scores = full;
        head.of_shares = full + TOGETHER * slots;
        head.log_sums = full + 2 * TOGETHER * slots;
        head.along = head.log_sums + slots;
        failed = !narrow || !full;
#pragma omp for schedule(static)
        for (long task = 0; task < sizes->B * H; task++) {
            if (failed) continue;
            const number *values = of(v, task, H), *gradients = of(gradient, task, H);
            const long place = task / H * T * H * D + task % H * D; /* of the head's first row in (B, T, H, D) */
            for (long t = 0; t < T; t++) {
                const number *query = q + (task * T + t) * D, *own = gradients + t * gradient->t,
                             *found = out + place + t * H * D;
                store_key(head.query_columns, t, query, D);
                store_key(head.gradient_columns, t, own, D);
                store_value(head.query_inputs, t, query, D, channels);
                store_value(head.gradient_inputs, t, own, D, channels);
                store_value(head.key_inputs, t, k + (task * T + t) * D, D, channels);
                float along = 0;
#pragma omp simd reduction(+ : along)
                for (long i = 0; i < D; i++) along += wide(own[i]) * wide(found[i]);
                head.along[t] = along;
                head.log_sums[t] = log_sums[task * T + t];
            }
            for (long first = 0; first < T; first += TOGETHER) { /* keys, and the queries that see one of them */
                const long some = T - first < TOGETHER ? T - first : TOGETHER, last = first + some - 1 + sizes->window;
                const long base = first / COLUMNS * COLUMNS, end = whole(last < T ? last : T, COLUMNS);
                weigh(sizes, &head, k + (task * T + first) * D, values + first * v->t, v->t, first, some, base, end,
                      slots);
                multiply_rows((Left){head.shares + base, slots, PAIR}, head.gradient_inputs + base * channels, some,
                              end - base, D, channels, of_v + place + first * H * D, H * D);
                multiply_rows((Left){head.parts + base, slots, PAIR}, head.query_inputs + base * channels, some,
                              end - base, D, channels, of_k + (task * T + first) * D, D);
                if (some < TOGETHER) memset(head.parts + some * slots, 0, (TOGETHER - some) * slots * sizeof(number));
                for (long r = 0; r < some; r += PAIR)
                    for (long query = base; query < end; query += COLUMNS) {
                        const number *from = head.parts + r * slots + query;
                        number *to = head.of_scores + query * slots + (first + r) * COLUMNS;
                        for (long i = 0; i < COLUMNS; i++)
                            for (int each = 0; each < PAIR; each++) to[i * PAIR + each] = from[each * slots + i];
                    }
            }
            for (long query = 0, some; query < T; query += some) { /* and the keys that they see; not beyond a panel */
                const long panel = query / COLUMNS * COLUMNS,
                           left = (T < panel + COLUMNS ? T : panel + COLUMNS) - query;
                some = left < TOGETHER ? left : TOGETHER;
                const long oldest = query - sizes->window + 1, from = oldest > 0 ? oldest / PAIR * PAIR : 0;
                const number *parts = head.of_scores + panel * slots + from * COLUMNS + (query - panel) * PAIR;
                multiply_rows((Left){parts, PAIR, PAIR * COLUMNS}, head.key_inputs + from * channels, some,
                              whole(query + some, PAIR) - from, D, channels, of_q + (task * T + query) * D, D);
            }
        }
        free(narrow);
        free(full);
    }
    return failed;
}
