/* One head's attention: keys and values in the order of `products.h`, and what a few queries find among them. */

#include "products.h"

/* A head's keys are the panels of a matrix (slots, dim), and its values the only panel of one (channels, slots), so that
   attention is two products with what is between them. */
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

/* What up to TOGETHER queries (tokens, dim) find, each among the first slots up to its own number: found[t] (dim).
   channels: dim in whole panels. scores, shares: (TOGETHER, room). */
static void attend(long tokens, const number *queries, const number *keys, const number *values, const long *used, long dim,
                   long channels, float scale, long room, float *scores, number *shares, number **found) {
    float totals[TOGETHER];
    vec sums[TOGETHER][VECTORS];
    ints lanes;
    for (int i = 0; i < WIDTH; i++) lanes[i] = i;
    const long most = whole(used[tokens - 1], WIDTH);
    for (long first = 0; first < most; first += COLUMNS) {
        tiles(tokens, keys + first * dim, PAIR * COLUMNS, queries, dim, dim, sums);
        for (long t = 0; t < tokens; t++) memcpy(scores + t * room + first, sums[t], sizeof sums[t]);
    }
    for (long t = 0; t < tokens; t++) {
        float *score = scores + t * room, highest = -INFINITY;
#pragma omp simd reduction(max : highest)
        for (long s = 0; s < used[t]; s++) highest = score[s] > highest ? score[s] : highest;
        vec total = {};
        for (long s = 0; s < most; s += WIDTH) {
            const vec share = exponential((*(vec *)(score + s) - highest) * scale);
            total += *(vec *)(score + s) = choose(lanes < (int32_t)(used[t] - s), share, (vec){});
        }
        for (long s = 0; s < most; s++) shares[t * room + s] = rounded(score[s]);
        totals[t] = 0;
        for (int i = 0; i < WIDTH; i++) totals[t] += total[i];
    }
    for (long first = 0; first < dim; first += COLUMNS) {
        const long size = dim - first < COLUMNS ? dim - first : COLUMNS;
        tiles(tokens, values + first * PAIR, channels * PAIR, shares, room, most, sums);
        for (long t = 0; t < tokens; t++)
            for (long i = 0; i < size; i++) found[t][first + i] = rounded(((float *)sums[t])[i] / totals[t]);
    }
}
