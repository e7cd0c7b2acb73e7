/* The law of the dots and of the end of data, the choice of the implementation that runs over the
 * text between them, and the scalar one, which is the reference for the others. */
#include "parser/scan.h"

#include "parser/scan_internal.h"

static const struct scan_code scan_scalar_code;

/* The one thing that is shared: set before threads start, only read afterwards. */
static const struct scan_code *chosen = &scan_scalar_code;

static size_t scan_held(struct scan *scan, struct bytes in, struct bytes *span);

size_t scan_data(struct scan *scan, struct bytes in, struct bytes *span)
{
    *span = bytes_make(in.data, 0);
    if (in.len == 0 || scan->position == SCAN_ENDED)
        return 0;
    if (scan->position == SCAN_AFTER_DOT || scan->position == SCAN_AFTER_DOT_CR) {
        size_t taken = scan_held(scan, in, span);
        if (taken > 0)
            return taken;
    }

    size_t end = chosen->data(scan, in);
    span->len = end;
    if (end == in.len)
        return end;
    if (in.len - end >= 3 && in.data[end + 1] == '\r' && in.data[end + 2] == '\n') {
        scan->position = SCAN_ENDED;
        return end + 3;
    }
    scan->position = SCAN_AFTER_DOT;
    return end + 1;
}

void scan_text(struct scan *scan, struct bytes in)
{
    if (in.len > 0)
        chosen->text(scan, in);
}

/* scan_octet_counts makes the line one octet longer, if lines are measured. One of 4 GiB stays at
 * the largest number there is. */
static void scan_octet_counts(struct scan *scan)
{
    if (!scan->lengths)
        return;
    if (scan->line_len < UINT32_MAX)
        scan->line_len++;
    if (scan->line_max < scan->line_len)
        scan->line_max = scan->line_len;
}

void scan_text_end(struct scan *scan)
{
    if (scan->position != SCAN_AFTER_CR)
        return;
    scan->seen |= SCAN_SEEN_BARE_CR;
    scan->position = SCAN_IN_LINE;
    scan_octet_counts(scan);
}

/* The processors differ in what they can be asked; the answers have one shape. */
#if defined(__x86_64__)

static const struct scan_code *scan_code(enum scan_kind kind)
{
    switch (kind) {
    case SCAN_SCALAR: return &scan_scalar_code;
    case SCAN_SSE2: return &scan_sse2_code;
    case SCAN_AVX2:
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
            __builtin_cpu_supports("bmi2"))
            return &scan_avx2_code;
        return NULL;
    case SCAN_AVX512:
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi") &&
            __builtin_cpu_supports("bmi2"))
            return &scan_avx512_code;
        return NULL;
    case SCAN_NEON:
    case SCAN_KIND_COUNT: break;
    }
    return NULL;
}

#elif defined(__aarch64__)

static const struct scan_code *scan_code(enum scan_kind kind)
{
    if (kind == SCAN_NEON)
        return &scan_neon_code;
    return kind == SCAN_SCALAR ? &scan_scalar_code : NULL;
}

#else

static const struct scan_code *scan_code(enum scan_kind kind)
{
    return kind == SCAN_SCALAR ? &scan_scalar_code : NULL;
}

#endif

bool scan_choose(enum scan_kind kind)
{
    const struct scan_code *code = scan_code(kind);
    if (code == NULL)
        return false;
    chosen = code;
    return true;
}

enum scan_kind scan_choose_best(void)
{
    static const enum scan_kind best_first[] = {SCAN_AVX512, SCAN_AVX2, SCAN_NEON, SCAN_SSE2};
    for (size_t i = 0; i < sizeof(best_first) / sizeof(best_first[0]); i++)
        if (scan_choose(best_first[i]))
            return best_first[i];
    scan_choose(SCAN_SCALAR);
    return SCAN_SCALAR;
}

const char *scan_kind_name(enum scan_kind kind)
{
    static const char *const names[SCAN_KIND_COUNT] = {
        [SCAN_SCALAR] = "scalar", [SCAN_SSE2] = "sse2", [SCAN_AVX2] = "avx2",
        [SCAN_AVX512] = "avx512", [SCAN_NEON] = "neon",
    };
    return kind < SCAN_KIND_COUNT ? names[kind] : "unknown";
}

/* A held-back CR that turns out to be text, together with the octet that told so. */
#define PAIR(c)                                                                                    \
    {                                                                                              \
        '\r', (c)                                                                                  \
    }
#define PAIRS4(c)  PAIR(c), PAIR((c) + 1), PAIR((c) + 2), PAIR((c) + 3)
#define PAIRS16(c) PAIRS4(c), PAIRS4((c) + 4), PAIRS4((c) + 8), PAIRS4((c) + 12)
#define PAIRS64(c) PAIRS16(c), PAIRS16((c) + 16), PAIRS16((c) + 32), PAIRS16((c) + 48)

static const uint8_t cr_and_octet[256][2] = {PAIRS64(0), PAIRS64(64), PAIRS64(128), PAIRS64(192)};

/* scan_held goes on after a dot at the start of a line, or after that dot and a CR. Returns how
 * many bytes of `in` it took; 0 when the dot was stuffed and all of `in` is to be read as text. */
static size_t scan_held(struct scan *scan, struct bytes in, struct bytes *span)
{
    if (scan->position == SCAN_AFTER_DOT) {
        if (in.data[0] == '\r' && in.len == 1) {
            scan->position = SCAN_AFTER_DOT_CR;
            return 1;
        }
        bool ended = in.data[0] == '\r' && in.data[1] == '\n';
        scan->position = ended ? SCAN_ENDED : SCAN_IN_LINE;
        return ended ? 2 : 0;
    }
    if (in.data[0] == '\n') {
        scan->position = SCAN_ENDED;
        return 1;
    }
    scan->position = SCAN_AFTER_CR;
    chosen->text(scan, bytes_slice(in, 0, 1));
    *span = bytes_make(cr_and_octet[in.data[0]], 2);
    return 1;
}

static void scalar_octet(struct scan *scan, uint8_t octet)
{
    if (scan->position == SCAN_AFTER_CR) {
        if (octet == '\n') {
            scan->position = SCAN_LINE_START;
            scan->line_len = 0;
            return;
        }
        scan->seen |= SCAN_SEEN_BARE_CR;
        scan_octet_counts(scan);
    }
    if (octet == '\r') {
        scan->position = SCAN_AFTER_CR;
        return;
    }
    if (octet == '\n')
        scan->seen |= SCAN_SEEN_BARE_LF;
    if (octet == '\0')
        scan->seen |= SCAN_SEEN_NUL;
    if (octet > 127)
        scan->seen |= SCAN_SEEN_8BIT;
    scan->position = SCAN_IN_LINE;
    scan_octet_counts(scan);
}

static size_t scalar_data(struct scan *scan, struct bytes in)
{
    for (size_t i = 0; i < in.len; i++) {
        if (scan->position == SCAN_LINE_START && in.data[i] == '.')
            return i;
        scalar_octet(scan, in.data[i]);
    }
    return in.len;
}

static void scalar_text(struct scan *scan, struct bytes in)
{
    for (size_t i = 0; i < in.len; i++)
        scalar_octet(scan, in.data[i]);
}

static const struct scan_code scan_scalar_code = {scalar_data, scalar_text};
