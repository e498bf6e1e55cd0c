/* One head's attention: keys and values in the order of `products.h`, and what a few queries find among them. */

#include "products.h"

/* A head's keys are the panels of a matrix (slots, dim), and its values the only panel of one (channels, slots), so
   that attention is two products with what is between them. */
static inline void store_key(number *keys, long slot, const number *key, long dim) {
    number *column = keys + slot / COLUMNS * COLUMNS * dim + slot % COLUMNS * PAIR;
    for (long i = 0; i < dim; i += PAIR) memcpy(column + i * COLUMNS, key + i, PAIR * sizeof(number));
}

static inline void store_value(number *values, long slot, const number *value, long dim, long channels) {
#if BF16
    uint32_t *pairs = (uint32_t *)(values + slot / 2 * 2 * channels); /* of this slot and its neighbour */
    const int shift = slot % 2 * 16;
    for (long i = 0; i < dim; i++) pairs[i] = (pairs[i] & 0xffff0000u >> shift) | (uint32_t)value[i] << shift;
#else
    memcpy(values + slot * channels, value, dim * sizeof(number));
#endif
}

/* What up to TOGETHER queries (tokens, dim) find, query t among the slots from[t] .. to[t] - 1, which both grow with t:
   found[t] (dim), and with log_sums the logarithm of the sum that its exponentials are divided by.
   channels: dim in whole panels. scores, shares: (TOGETHER, room). */
static void attend(long tokens, const number *queries, const number *keys, const number *values, const long *from,
                   const long *to, long dim, long channels, float scale, long room, float *scores, number *shares,
                   number **found, float *log_sums) {
    float totals[TOGETHER];
    vec sums[TOGETHER][VECTORS];
    const long base = from[0] / COLUMNS * COLUMNS,
               size = whole(to[tokens - 1] - base, WIDTH); /* of what is seen at all */
    for (long first = 0; first < size; first += COLUMNS) {
        tiles(tokens, keys + (base + first) * dim, PAIR * COLUMNS, (Left){queries, dim, PAIR}, dim, sums);
        for (long t = 0; t < tokens; t++) memcpy(scores + t * room + first, sums[t], sizeof sums[t]);
    }
    for (long t = 0; t < tokens; t++) {
        const long first = from[t] - base, end = to[t] - base;
        const float *score = scores + t * room;
        float highest = -INFINITY;
#pragma omp simd reduction(max : highest)
        for (long s = first; s < end; s++) highest = score[s] > highest ? score[s] : highest;
        vec total = {};
        for (long s = 0; s < size; s += WIDTH) {
            const vec share = exponential((*(const vec *)(score + s) - highest) * scale);
            const vec weight = choose(lanes(first - s, end - s), share, (vec){});
            store_rounded(shares + t * room + s, weight);
            total += weight;
        }
        totals[t] = 0;
        for (int i = 0; i < WIDTH; i++) totals[t] += total[i];
        if (log_sums) log_sums[t] = highest * scale + logf(totals[t]);
    }
    for (long first = 0; first < dim; first += COLUMNS) {
        const long some = dim - first < COLUMNS ? dim - first : COLUMNS;
        tiles(tokens, values + base * channels + first * PAIR, channels * PAIR, (Left){shares, room, PAIR}, size, sums);
        for (long t = 0; t < tokens; t++)
            for (long i = 0; i < some; i++) found[t][first + i] = rounded(((float *)sums[t])[i] / totals[t]);
    }
}
