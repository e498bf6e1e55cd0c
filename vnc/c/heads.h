/* What is done to the heads of queries and keys, and to whole tokens, in generation and in training alike. */

#include "numbers.h"

/* 1 / sqrt(mean(x^2) + eps), with the eps that torch's rms_norm takes by default. */
static inline float inverse_rms(const float *x, long n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += x[i] * x[i];
    return 1 / sqrtf(sum / n + 1.1920929e-07f);
}

/* x turned by angles of these cosines and sines (dim / 2), `sign` times. */
static inline void turn(float *x, const float *cos, const float *sin, float sign, long dim) {
    const long half = dim / 2;
    for (long i = 0; i < half; i++) {
        const float left = x[i], right = x[i + half], turned = sign * sin[i];
        x[i] = left * cos[i] - right * turned;
        x[i + half] = right * cos[i] + left * turned;
    }
}
