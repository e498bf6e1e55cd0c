/* The forward pass of a frozen model on a CPU, in one call: what vnc/decoding/decoder.py computes by torch's operations.

   One token for one row is a pass through all matrices for next to no arithmetic, and each of torch's hundreds of calls
   costs as much as what it computes. Here nothing stands between the products: a pass takes as long as the processor's
   caches, or its memory, take to yield the weights. vnc/c/library.py compiles this page when it is first needed, a
   second once per machine; vnc/decoding/c_decoder.py fills its structures.

   Matrices, keys, values and what goes into products are numbers of the model's compute dtype, bf16 or fp32; sums, the
   stream and all that lies between the products are fp32. Each result is summed by one thread in an order of its own,
   so it depends neither on how many threads there are nor on how many rows or tokens the pass brings.

   Shapes: rows of the batch bring `count` tokens each, N in all, one after another; C = heads * head_dim. The key of
   position p lies in slot p % slots of its row and head, (rows, heads, slots, head_dim) in each layer. */

#include "attention.h"
#include "heads.h"

const long panel_columns = COLUMNS; /* vnc/decoding/c_decoder.py asks for it; GATE_CHANNELS and SMEAR_CHANNELS it tells */

typedef struct {
    const float *weight, *bias; /* (C); without weight it is RMSNorm */
} Norm;

typedef struct {
    Matrix qkv, proj, fc, mlp_proj;
    Norm attn_norm, mlp_norm;
    const number *value_table; /* (vocabulary, C), or NULL */
    const float *value_gate;   /* (heads, GATE_CHANNELS) */
    float residual_scale, x0_scale;
} Layer;

typedef struct {
    long layers, heads, head_dim;
    long extras, gelu, qk_norm; /* switches of GPTConfig */
    float attention_scale, smear_scale, backout_scale;
    const number *embeddings, *positions; /* (vocabulary, C); (length, C), or NULL */
    const float *cos, *sin;               /* (length, head_dim / 2), or NULL */
    const float *smear_gate;              /* (SMEAR_CHANNELS) */
    const Layer *layer;
    Norm final_norm;
    Matrix head;
} Model;

typedef struct {
    long rows, due, threads;
    const int64_t *ids;      /* (N) */
    const int64_t *start;    /* (rows): the position of each row's first token */
    const int64_t *count;    /* (rows): may be 0 */
    const int64_t *due_rows; /* (due): after whose last token logits are wanted */
    float *last_embedding;   /* (rows, C): of the token before; brought up to date */
    number *const *keys, *const *values;
    const int64_t *slots; /* (layers) */
    float *logits;        /* (due, vocabulary) */
} Pass;

typedef struct {
    long row, position, due; /* due: its place among those whose logits are wanted, or -1 */
} Token;

static void normalise(const Norm *norm, const float *x, number *y, long n) {
    if (!norm->weight) {
        float scale = inverse_rms(x, n);
        for (long i = 0; i < n; i++) y[i] = rounded(x[i] * scale);
        return;
    }
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += x[i];
    float mean = sum / n;
#pragma omp simd reduction(+ : squares)
    for (long i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1 / sqrtf(squares / n + 1e-5f);
    for (long i = 0; i < n; i++)
        y[i] = rounded((x[i] - mean) * scale * norm->weight[i] + (norm->bias ? norm->bias[i] : 0));
}

/* One head of a query or a key: turned by its position, which changes x, and normalised. */
static inline void place(const Model *model, long position, float *x, number *y) {
    const long dim = model->head_dim, at = position * dim / 2;
    if (model->cos) turn(x, model->cos + at, model->sin + at, 1, dim);
    const float scale = model->qk_norm ? inverse_rms(x, dim) : 1;
    for (long i = 0; i < dim; i++) y[i] = rounded(x[i] * scale);
}

/* What a token's embedding adds to its values in one head, by a gate that reads the first channels of the input. */
static void add_value_embedding(const Layer *layer, const number *table_row, const number *normal, long head, long dim,
                                float *v) {
    float gate = 0;
    for (int i = 0; i < GATE_CHANNELS; i++) gate += wide(normal[i]) * layer->value_gate[head * GATE_CHANNELS + i];
    gate = 3 * sigmoid(gate);
    for (long i = 0; i < dim; i++) v[i] += gate * wide(table_row[head * dim + i]);
}

/* qkv (N, 3 C) -> found (N, C), or (due, C) in the last layer; keys and values go into the cache. Each head of each row
   takes a few tokens at a time: as many as do not take the place of keys that the first of them still sees. */
static void attention(const Model *model, const Pass *pass, long index, const Token *tokens, const number *normal,
                      float *qkv, long room, float *scores, number *shares, number *found) {
    const Layer *layer = &model->layer[index];
    const long dim = model->head_dim, heads = model->heads, C = heads * dim, slots = pass->slots[index];
    const long channels = whole(dim, COLUMNS), kept = whole(slots, COLUMNS);
    const int last = index == model->layers - 1;
#pragma omp for schedule(static)
    for (long task = 0; task < pass->rows * heads; task++) {
        const long row = task / heads, head = task % heads;
        number *keys = pass->keys[index] + task * kept * dim, *values = pass->values[index] + task * kept * channels;
        number queries[TOGETHER * dim], new[dim], *results[TOGETHER];
        long used[TOGETHER], none[TOGETHER] = {0}, some, token = 0;
        for (long before = 0; before < row; before++) token += pass->count[before];
        for (long end = token + pass->count[row]; token < end; token += some) {
            some = end - token < TOGETHER ? end - token : TOGETHER;
            if (last || tokens[token].position + some > slots) some = 1;
            for (long t = 0; t < some; t++) {
                const Token *one = &tokens[token + t];
                const long slot = one->position % slots;
                float *q = qkv + (token + t) * 3 * C + head * dim, *k = q + C, *v = k + C;
                if (layer->value_table)
                    add_value_embedding(layer, layer->value_table + pass->ids[token + t] * C, normal + (token + t) * C,
                                        head, dim, v);
                place(model, one->position, k, new);
                store_key(keys, slot, new, dim);
                for (long i = 0; i < dim; i++) new[i] = rounded(v[i]);
                store_value(values, slot, new, dim, channels);
                if (last && one->due < 0) continue;
                place(model, one->position, q, queries + t * dim);
                used[t] = one->position < slots ? one->position + 1 : slots;
                results[t] = found + (last ? one->due : token + t) * C + head * dim;
            }
            if (last && tokens[token].due < 0) continue;
            attend(some, queries, keys, values, none, used, dim, channels, model->attention_scale, room, scores, shares,
                   results, NULL);
        }
    }
}

/* Token ids -> x (N, C): their embeddings; smeared in the modern preset, for which plain is room for as many again. */
static void embed(const Model *model, const Pass *pass, const Token *tokens, long n, float *plain, float *x) {
    const long C = model->heads * model->head_dim;
#pragma omp for schedule(static)
    for (long token = 0; token < n; token++) {
        const number *from = model->embeddings + pass->ids[token] * C;
        const number *own = model->positions ? model->positions + tokens[token].position * C : NULL;
        float *to = (model->extras ? plain : x) + token * C;
        for (long i = 0; i < C; i++) to[i] = wide(from[i]) + (own ? wide(own[i]) : 0);
        if (model->extras) {
            const float scale = inverse_rms(to, C);
            for (long i = 0; i < C; i++) to[i] *= scale;
        }
    }
    if (!model->extras) return;
#pragma omp for schedule(static)
    for (long token = 0; token < n; token++) {
        const long row = tokens[token].row;
        const int first = tokens[token].position == pass->start[row];
        const float *own = plain + token * C, *before = first ? pass->last_embedding + row * C : own - C;
        float gate = 0;
        for (int i = 0; i < SMEAR_CHANNELS; i++) gate += own[i] * model->smear_gate[i];
        gate = model->smear_scale * sigmoid(gate);
        for (long i = 0; i < C; i++) x[token * C + i] = own[i] + gate * before[i];
    }
#pragma omp for schedule(static)
    for (long token = 0; token < n; token++)
        if (token == n - 1 || tokens[token].row != tokens[token + 1].row)
            memcpy(pass->last_embedding + tokens[token].row * C, plain + token * C, C * sizeof(float));
}

/* rows (tokens, C) of the tokens that are due -> (due, C). */
static void gather(const Token *tokens, long n, const float *from, float *to, long C) {
#pragma omp for schedule(static)
    for (long token = 0; token < n; token++)
        if (tokens[token].due >= 0) memcpy(to + tokens[token].due * C, from + token * C, C * sizeof(float));
}

static void norm_of_each(const Norm *norm, const float *x, long n, number *y, long C) {
#pragma omp for schedule(static)
    for (long token = 0; token < n; token++) normalise(norm, x + token * C, y + token * C, C);
}

/* The memory of a pass, in one piece. */
typedef struct {
    float *x, *x0, *middle, *qkv, *scores;    /* (N, C), (N, C), (N, C), (N, 3 C), (threads, TOGETHER, room) */
    number *normal, *found, *hidden, *shares; /* (N, C), (N, C), (N, 4 C), (threads, TOGETHER, room) */
    Token *tokens;
} Memory;

static void *piece(char **next, long bytes) {
    char *start = *next;
    *next += whole(bytes, 64);
    return start;
}

/* Fills logits, and reads the tokens into the cache. Returns 0, or 1 if there was not enough memory. */
int forward(const Model *model, const Pass *pass) {
    const long C = model->heads * model->head_dim, last = model->layers - 1;
    long n = 0, room = COLUMNS;
    for (long row = 0; row < pass->rows; row++) n += pass->count[row];
    for (long layer = 0; layer <= last; layer++) room = pass->slots[layer] > room ? pass->slots[layer] : room;
    room = whole(room, COLUMNS);
    const long full = n * C * sizeof(float), narrow = n * C * sizeof(number), scores = pass->threads * TOGETHER * room;
    char *memory =
        aligned_alloc(64, whole(6 * full + 6 * narrow + n * sizeof(Token) + 2 * scores * sizeof(float), 64) + 1024);
    if (!memory) return 1;
    char *next = memory;
    Memory m = {.x = piece(&next, full),
                .x0 = piece(&next, full),
                .middle = piece(&next, full),
                .qkv = piece(&next, 3 * full),
                .scores = piece(&next, scores * sizeof(float)),
                .normal = piece(&next, narrow),
                .found = piece(&next, narrow),
                .hidden = piece(&next, 4 * narrow),
                .shares = piece(&next, scores * sizeof(number)),
                .tokens = piece(&next, n * sizeof(Token))};
    for (long row = 0, token = 0; row < pass->rows; row++) {
        for (long i = 0; i < pass->count[row]; i++) m.tokens[token++] = (Token){row, pass->start[row] + i, -1};
        for (long i = 0; i < pass->due; i++)
            if (pass->due_rows[i] == row) m.tokens[token - 1].due = i;
    }
#pragma omp parallel num_threads(pass->threads)
    {
        long left = n;                                           /* tokens that go on */
        const long own = omp_get_thread_num() * TOGETHER * room; /* where this thread's scores begin */
        float *x = m.x, *spare = m.qkv, *middle = m.middle;
        embed(model, pass, m.tokens, n, m.qkv, m.x0);
#pragma omp for schedule(static)
        for (long i = 0; i < n * C; i++) x[i] = m.x0[i];
        for (long index = 0; index <= last; index++) {
            const Layer *layer = &model->layer[index];
            if (model->extras) {
#pragma omp for schedule(static)
                for (long i = 0; i < n * C; i++) x[i] = layer->x0_scale * m.x0[i] + layer->residual_scale * x[i];
            }
            norm_of_each(&layer->attn_norm, x, n, m.normal, C);
            product(&layer->qkv, m.normal, n, STORE, m.qkv);
            attention(model, pass, index, m.tokens, m.normal, m.qkv, room, m.scores + own, m.shares + own, m.found);
            if (index == last) { /* only tokens that are due go on */
                gather(m.tokens, n, x, spare, C);
                x = spare;
                if (index != model->layers / 2 && model->extras) {
                    gather(m.tokens, n, middle, m.x, C);
                    middle = m.x;
                }
                left = pass->due;
            }
            product(&layer->proj, m.found, left, ADD, x);
            norm_of_each(&layer->mlp_norm, x, left, m.normal, C);
            product(&layer->fc, m.normal, left, model->gelu ? GELU : SQUARED_RELU, m.hidden);
            product(&layer->mlp_proj, m.hidden, left, ADD, x);
            if (model->extras && index == model->layers / 2) {
#pragma omp for schedule(static)
                for (long i = 0; i < left * C; i++) middle[i] = x[i];
            }
        }
        if (model->extras) {
#pragma omp for schedule(static)
            for (long i = 0; i < left * C; i++) x[i] -= model->backout_scale * middle[i];
        }
        norm_of_each(&model->final_norm, x, left, m.normal, C);
        product(&model->head, m.normal, left, STORE, pass->logits);
    }
    free(memory);
    return 0;
}
