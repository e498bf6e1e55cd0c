/* What vectors and numbers are here. A model's numbers are bf16 (-DBF16=1, on processors with AVX512-BF16) or fp32;
   sums are fp32. GCC's vector types become whatever the processor has: AVX-512, or two halves of AVX2. */

#pragma once

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __AVX512F__
#include <immintrin.h>
#define WIDTH 16 /* floats in a vector */
#else
#define WIDTH 8
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#if BF16
typedef uint16_t number;
#define PAIR 2 /* inputs that one instruction multiplies, and adds to each of its sums */

static inline float wide(number x) {
    union {
        uint32_t bits;
        float value;
    } wide = {(uint32_t)x << 16};
    return wide.value;
}

static inline number rounded(float x) { /* to the nearest, ties to even */
    union {
        float value;
        uint32_t bits;
    } wide = {x};
    uint32_t bits = (wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16;
    return x == x ? (number)bits : 0x7fc0;
}

typedef __m512bh factors; /* (WIDTH, PAIR) numbers */
static inline factors load(const number *x) { return (factors)_mm512_loadu_si512(x); }

/* sums + weights x: x (PAIR). */
static inline vec multiply(vec sums, factors weights, const number *x) {
    int32_t pair;
    memcpy(&pair, x, 4);
    return (vec)_mm512_dpbf16_ps((__m512)sums, weights, (__m512bh)_mm512_set1_epi32(pair));
}

static inline void store_rounded(number *to, vec x) { *(__m256i_u *)to = (__m256i)_mm512_cvtneps_pbh((__m512)x); }
#else
typedef float number;
#define PAIR 1
static inline float wide(number x) { return x; }
static inline number rounded(float x) { return x; }
static inline void store_rounded(number *to, vec x) { *(vec *)to = x; }
typedef vec factors;
static inline factors load(const number *x) { return *(const vec *)x; }
static inline vec multiply(vec sums, factors weights, const number *x) { return sums + weights * *x; }
#endif

/* size, rounded up to a multiple of unit. */
static inline long whole(long size, long unit) { return (size + unit - 1) / unit * unit; }

/* Which lanes of a vector: choose takes yes there, and no elsewhere. */
#if __AVX512F__
typedef __mmask16 mask;
static inline mask below(vec x, float y) { return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(y), _CMP_LT_OQ); }
static inline vec choose(mask lanes, vec yes, vec no) {
    return (vec)_mm512_mask_blend_ps(lanes, (__m512)no, (__m512)yes);
}

static inline mask lanes(long from, long to) { /* from .. to - 1, which may lie outside */
    from = from < 0 ? 0 : from > WIDTH ? WIDTH : from;
    to = to < 0 ? 0 : to > WIDTH ? WIDTH : to;
    return (mask)(((1u << to) - 1) & ~((1u << from) - 1));
}
#else
typedef ints mask;
static inline mask below(vec x, float y) { return x < y; }
static inline vec choose(mask lanes, vec yes, vec no) { return (vec)(((ints)yes & lanes) | ((ints)no & ~lanes)); }

static inline mask lanes(long from, long to) {
    const ints number = {0, 1, 2, 3, 4, 5, 6, 7};
    return (number >= (int32_t)from) & (number < (int32_t)to);
}
#endif

/* e^x for x < 88, within 2 units of the last place; 0 below -87: 2^n e^r with |r| <= ln(2) / 2, that by its series. */
static inline vec exponential(vec x) {
    const float series[] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
    const vec whole = x * 1.44269504f + 12582912.0f - 12582912.0f;   /* at 1.5 * 2^23 floats are whole numbers */
    const vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f; /* ln 2 in two parts, the first of few digits */
    vec y = (vec){} + 1 / 5040.0f;
    for (int i = 0; i < 7; i++) y = y * r + series[i];
    return choose(below(x, -87), (vec){},
                  y * (vec)((__builtin_convertvector(whole, ints) + 127) << 23)); /* NaN stays NaN */
}

static inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static inline vec sigmoids(vec x) {
    const vec one = (vec){} + 1, small = exponential(choose(below(x, 0), x, -x));
    return choose(below(x, 0), small, one) / (one + small);
}
