/* What vectors and numbers are here. A model's numbers are bf16 (-DBF16=1, on processors with AVX512-BF16) or fp32;
   sums are fp32. GCC's vector types become whatever the processor has: AVX-512, or two halves of AVX2. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __AVX512F__
#define WIDTH 16 /* floats in a vector */
#else
#define WIDTH 8
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#if BF16
#include <immintrin.h>
typedef uint16_t number;
#define PAIR 2 /* inputs that one instruction multiplies, and adds to each of its sums */

static inline float wide(number x) {
    union { uint32_t bits; float value; } wide = {(uint32_t)x << 16};
    return wide.value;
}

static inline number rounded(float x) { /* to the nearest, ties to even */
    union { float value; uint32_t bits; } wide = {x};
    uint32_t bits = (wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16;
    return x == x ? (number)bits : 0x7fc0;
}

/* sums + weights x: weights (WIDTH, PAIR), x (PAIR). */
static inline vec multiply(vec sums, const number *weights, const number *x) {
    int32_t pair;
    memcpy(&pair, x, 4);
    return (vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_loadu_si512(weights), (__m512bh)_mm512_set1_epi32(pair));
}
#else
typedef float number;
#define PAIR 1
static inline float wide(number x) { return x; }
static inline number rounded(float x) { return x; }
static inline vec multiply(vec sums, const number *weights, const number *x) { return sums + *(const vec *)weights * *x; }
#endif

/* size, rounded up to a multiple of unit. */
static inline long whole(long size, long unit) { return (size + unit - 1) / unit * unit; }

/* yes where the mask is all ones, no where it is all zeros; comparisons of vectors make such masks. */
static inline vec choose(ints mask, vec yes, vec no) { return (vec)(((ints)yes & mask) | ((ints)no & ~mask)); }

/* e^x for x <= 0, within 2 units of the last place, or 0 below -87: 2^n e^r with |r| <= ln(2) / 2, that by its series. */
static inline vec exponential(vec x) {
    const float series[] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
    ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, ints); /* cuts off towards 0, and so rounds what is below */
    vec whole = __builtin_convertvector(n, vec);
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f; /* ln 2 in two parts, the first of few digits */
    vec y = (vec){} + 1 / 5040.0f;
    for (int i = 0; i < 7; i++) y = y * r + series[i];
    return choose(x >= -87, y * (vec)((n + 127) << 23), (vec){});
}

static inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static inline vec sigmoids(vec x) {
    const vec one = (vec){} + 1, small = exponential(choose(x < 0, x, -x));
    return choose(x < 0, small, one) / (one + small);
}
