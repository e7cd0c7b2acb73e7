/* The scanner against a second opinion that shares no code and no method with it: the oracle below
 * looks at the whole message at once and asks of each octet what its neighbours are. Every
 * implementation that this machine can run is tried, at every split, with the input at the edge of
 * readable memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/scan.h"
#include "tests/unit/guard.h"

enum { INPUT_MAX = 4096 };

/* What a message came to. */
struct outcome {
    struct scan scan;
    size_t taken;
    size_t text_len;
    uint8_t text[2 * INPUT_MAX];
};

static struct guard guard;

/* The oracle. */

static bool line_starts(struct bytes in, size_t i)
{
    return i == 0 || (i >= 2 && in.data[i - 2] == '\r' && in.data[i - 1] == '\n');
}

static bool is_at(struct bytes in, size_t i, const char *wanted)
{
    size_t len = strlen(wanted);
    return in.len >= i + len && memcmp(in.data + i, wanted, len) == 0;
}

static uint8_t oracle_seen(struct bytes in)
{
    int seen = 0;
    for (size_t i = 0; i < in.len; i++) {
        if (in.data[i] == '\r' && i + 1 < in.len && in.data[i + 1] != '\n')
            seen |= SCAN_SEEN_BARE_CR;
        if (in.data[i] == '\n' && (i == 0 || in.data[i - 1] != '\r'))
            seen |= SCAN_SEEN_BARE_LF;
        if (in.data[i] == '\0')
            seen |= SCAN_SEEN_NUL;
        if (in.data[i] >= 0x80)
            seen |= SCAN_SEEN_8BIT;
    }
    return (uint8_t)seen;
}

static void oracle_lines(struct outcome *outcome)
{
    struct bytes text = bytes_make(outcome->text, outcome->text_len);
    struct scan *scan = &outcome->scan;
    scan->line_max = 0;
    for (size_t start = 0;; start++) {
        size_t end = start;
        while (end < text.len && !is_at(text, end, "\r\n"))
            end++;
        bool waits = end == text.len && scan->position == SCAN_AFTER_CR;
        scan->line_len = (uint32_t)(end - start) - waits;
        if (scan->line_max < scan->line_len)
            scan->line_max = scan->line_len;
        if (end == text.len)
            return;
        start = end + 1;
    }
}

/* oracle says what the scanner must make of `in`. */
static void oracle(struct bytes in, bool stuffed, struct outcome *outcome)
{
    bool ended = false;
    size_t text_end = in.len;
    for (size_t i = 0; stuffed && !ended && i < in.len; i++)
        if (line_starts(in, i) && is_at(in, i, ".\r\n")) {
            ended = true;
            text_end = i;
        }
    outcome->taken = ended ? text_end + 3 : in.len;
    in.len = text_end;

    bool dot_waits =
        stuffed && in.len >= 1 && line_starts(in, in.len - 1) && in.data[in.len - 1] == '.';
    bool dot_cr_waits =
        stuffed && in.len >= 2 && line_starts(in, in.len - 2) && is_at(in, in.len - 2, ".\r");
    outcome->scan.position = ended                                       ? SCAN_ENDED
                             : dot_waits                                 ? SCAN_AFTER_DOT
                             : dot_cr_waits                              ? SCAN_AFTER_DOT_CR
                             : line_starts(in, in.len)                   ? SCAN_LINE_START
                             : in.len > 0 && in.data[in.len - 1] == '\r' ? SCAN_AFTER_CR
                                                                         : SCAN_IN_LINE;
    outcome->scan.seen = oracle_seen(in);
    outcome->text_len = 0;
    for (size_t i = 0; i < in.len; i++) {
        bool held = dot_cr_waits && i + 1 == in.len;
        bool dropped = stuffed && in.data[i] == '.' && line_starts(in, i);
        if (!held && !dropped)
            outcome->text[outcome->text_len++] = in.data[i];
    }
    oracle_lines(outcome);
}

/* Running the scanner. */

enum edge { AT_END, AT_START };

static void take_span(struct outcome *outcome, struct bytes span)
{
    assert_true(outcome->text_len + span.len <= sizeof(outcome->text));
    if (span.len > 0)
        memcpy(outcome->text + outcome->text_len, span.data, span.len);
    outcome->text_len += span.len;
}

/* feed gives one piece to the scanner as a caller does, and checks the promises of each single
 * call. */
static void feed(struct outcome *outcome, struct bytes piece, bool stuffed, enum edge edge)
{
    struct bytes in = edge == AT_END ? guard_at_end(&guard, piece) : guard_at_start(&guard, piece);
    if (!stuffed) {
        scan_text(&outcome->scan, in);
        take_span(outcome, in);
        outcome->taken += in.len;
        return;
    }
    while (in.len > 0 && outcome->scan.position != SCAN_ENDED) {
        struct bytes span = {NULL, 12345};
        size_t taken = scan_data(&outcome->scan, in, &span);
        assert_true(taken > 0 && taken <= in.len);
        bool slice = span.data == in.data && span.len <= taken;
        assert_true(slice || (span.len == 2 && span.data[0] == '\r' && taken == 1));
        take_span(outcome, span);
        in = bytes_skip(in, taken);
        outcome->taken += taken;
    }
}

static void assert_same(const struct outcome *got, const struct outcome *wanted)
{
    assert_int_equal(got->taken, wanted->taken);
    assert_int_equal(got->scan.position, wanted->scan.position);
    assert_int_equal(got->scan.seen, wanted->scan.seen);
    assert_int_equal(got->scan.line_len, got->scan.lengths ? wanted->scan.line_len : 0);
    assert_int_equal(got->scan.line_max, got->scan.lengths ? wanted->scan.line_max : 0);
    assert_int_equal(got->text_len, wanted->text_len);
    assert_memory_equal(got->text, wanted->text, wanted->text_len);
}

/* check_split cuts `in` at two places (0 <= first <= second <= in.len) and compares with the
 * oracle. */
static void check_split(struct bytes in, size_t first, size_t second, bool stuffed, enum edge edge,
                        const struct outcome *wanted)
{
    static struct outcome got;
    for (int lengths = 0; lengths <= 1; lengths++) {
        got.scan = (struct scan){.lengths = lengths};
        got.taken = got.text_len = 0;
        feed(&got, bytes_slice(in, 0, first), stuffed, edge);
        feed(&got, bytes_slice(in, first, second), stuffed, edge);
        feed(&got, bytes_slice(in, second, in.len), stuffed, edge);
        assert_same(&got, wanted);
    }
}

/* check_everywhere: every implementation, every single split, both edges, as DATA and as BDAT. */
static void check_everywhere(struct bytes in)
{
    static struct outcome wanted;
    for (int stuffed = 0; stuffed <= 1; stuffed++) {
        oracle(in, stuffed, &wanted);
        for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
            if (!scan_choose(kind))
                continue;
            for (size_t split = 0; split <= in.len; split++) {
                check_split(in, split, in.len, stuffed, AT_END, &wanted);
                check_split(in, 0, split, stuffed, AT_START, &wanted);
            }
        }
    }
}

/* Random mail. */

static uint64_t random_state = 88172645463325252U;

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) * limit >> 32);
}

/* random_mail strings pieces together; `wildness` of 0 is tidy mail, 2 is noise made of dangerous
 * octets. */
static struct bytes random_mail(uint8_t *room, size_t len, uint32_t wildness)
{
    static const char *const tame[] = {"\r\n", "\r\n", "\r\n.", "\r\n..",
                                       "a",    ".",    "word ", "\r\n\r\n"};
    static const char *const wild[] = {"\r",      "\n",    ".",           "\r\n.\r",
                                       "\r\n.\n", "\xff",  "\xc3\xa9",    "\r\n",
                                       "\n.\n",   "\r.\r", "\r\n.\r\r\n", "\n.\r\n"};
    size_t at = 0;
    while (at < len) {
        char run[100];
        const char *piece = run;
        memset(run, 'x', sizeof(run));
        run[random_below(sizeof(run))] = '\0';
        if (wildness == 2 || random_below(8) < wildness)
            piece = wild[random_below(sizeof(wild) / sizeof(wild[0]))];
        else if (random_below(3) > 0)
            piece = tame[random_below(sizeof(tame) / sizeof(tame[0]))];
        if (random_below(400) == 0)
            piece = "\r\n.\r\n";
        size_t piece_len = strlen(piece);
        if (wildness > 0 && random_below(50) == 0) {
            piece = "";
            piece_len = 1; /* a NUL */
        }
        piece_len = piece_len < len - at ? piece_len : len - at;
        memcpy(room + at, piece, piece_len);
        at += piece_len;
    }
    return bytes_make(room, len);
}

/* The tests. */

static void test_examples(void **state)
{
    (void)state;
    enum { CR = SCAN_SEEN_BARE_CR, LF = SCAN_SEEN_BARE_LF };
    enum { NUL = SCAN_SEEN_NUL, HIGH = SCAN_SEEN_8BIT };
    static const struct {
        struct bytes in, text;
        size_t left; /* octets that are not the scanner's any more */
        enum scan_position position;
        int seen;
        uint32_t line_max;
    } cases[] = {
        {BYTES(".\r\n"),                  BYTES(""),             0, SCAN_ENDED,        0,    0},
        {BYTES("\r\n.\r\n"),              BYTES("\r\n"),         0, SCAN_ENDED,        0,    0},
        {BYTES("hello\r\n.\r\nQUIT\r\n"), BYTES("hello\r\n"),    6, SCAN_ENDED,        0,    5},
        {BYTES("a\r\n..\r\n.\r\n"),       BYTES("a\r\n.\r\n"),   0, SCAN_ENDED,        0,    1},
        {BYTES("..a\r\n...\r\n"),         BYTES(".a\r\n..\r\n"), 0, SCAN_LINE_START,   0,    2},
        {BYTES(".hidden\r\n.\r\n"),       BYTES("hidden\r\n"),   0, SCAN_ENDED,        0,    6},
        {BYTES("a.b\r\nc"),               BYTES("a.b\r\nc"),     0, SCAN_IN_LINE,      0,    3},
        {BYTES("a\n.\n"),                 BYTES("a\n.\n"),       0, SCAN_IN_LINE,      LF,   4},
        {BYTES("a\n.\r\nb"),              BYTES("a\n.\r\nb"),    0, SCAN_IN_LINE,      LF,   3},
        {BYTES("a\r.\r\nb"),              BYTES("a\r.\r\nb"),    0, SCAN_IN_LINE,      CR,   3},
        {BYTES("a\r\n.\nb"),              BYTES("a\r\n\nb"),     0, SCAN_IN_LINE,      LF,   2},
        {BYTES("a\r\n.\rb"),              BYTES("a\r\n\rb"),     0, SCAN_IN_LINE,      CR,   2},
        {BYTES("a\r\n.\r\r\n"),           BYTES("a\r\n\r\r\n"),  0, SCAN_LINE_START,   CR,   1},
        {BYTES("a\r\n.\r"),               BYTES("a\r\n"),        0, SCAN_AFTER_DOT_CR, 0,    1},
        {BYTES("a\r\n."),                 BYTES("a\r\n"),        0, SCAN_AFTER_DOT,    0,    1},
        {BYTES("a\r\r\n.\r\n"),           BYTES("a\r\r\n"),      0, SCAN_ENDED,        CR,   2},
        {BYTES("abc\r"),                  BYTES("abc\r"),        0, SCAN_AFTER_CR,     0,    3},
        {BYTES("\n"),                     BYTES("\n"),           0, SCAN_IN_LINE,      LF,   1},
        {BYTES("a\0\r\n.\r\n"),           BYTES("a\0\r\n"),      0, SCAN_ENDED,        NUL,  2},
        {BYTES("\x80\r\n.\r\n\xff"),      BYTES("\x80\r\n"),     1, SCAN_ENDED,        HIGH, 1},
        {BYTES("a\r\n.\r\n\n\r\0"),       BYTES("a\r\n"),        3, SCAN_ENDED,        0,    1},
    };
    static struct outcome wanted;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        oracle(cases[i].in, true, &wanted);
        assert_int_equal(wanted.taken, cases[i].in.len - cases[i].left);
        assert_int_equal(wanted.scan.position, cases[i].position);
        assert_int_equal(wanted.scan.seen, cases[i].seen);
        assert_int_equal(wanted.scan.line_max, cases[i].line_max);
        assert_true(bytes_equal(bytes_make(wanted.text, wanted.text_len), cases[i].text));
        check_everywhere(cases[i].in);
    }
}

/* Whatever stands around the dot, only CR LF on both sides ends the message; before and after it
 * lie lengths that bring the sequence to every place of a block. */
static void test_smuggling(void **state)
{
    (void)state;
    static const struct bytes ends[] = {
        BYTES("\r\n"),   BYTES("\r"),     BYTES("\n"),       BYTES("\n\r"),  BYTES("\r\r\n"),
        BYTES("\r\n\0"), BYTES("\0\r\n"), BYTES("\r\n\x85"), BYTES("\r \n"), BYTES("\n\n"),
    };
    enum { END_COUNT = sizeof(ends) / sizeof(ends[0]) };
    static uint8_t room[512];
    static struct outcome wanted;
    for (size_t pair = 0; pair < END_COUNT * END_COUNT; pair++)
        for (size_t before = 0; before < 130; before++) {
            struct bytes left = ends[pair / END_COUNT], right = ends[pair % END_COUNT];
            memset(room, 'x', sizeof(room));
            size_t at = before;
            memcpy(room + at, left.data, left.len);
            at += left.len;
            room[at++] = '.';
            memcpy(room + at, right.data, right.len);
            at += right.len;
            struct bytes in = bytes_make(room, at + 70);
            bool ends_here = left.len >= 2 && right.len >= 2 &&
                             memcmp(left.data + left.len - 2, "\r\n", 2) == 0 &&
                             memcmp(right.data, "\r\n", 2) == 0;
            oracle(in, true, &wanted);
            assert_int_equal(wanted.scan.position == SCAN_ENDED, ends_here);
            for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
                if (!scan_choose(kind))
                    continue;
                check_split(in, in.len, in.len, true, AT_END, &wanted);
                for (size_t split = before; split <= at; split++)
                    check_split(in, split, split + (split < at), true, AT_START, &wanted);
            }
        }
}

static void test_random_every_split(void **state)
{
    (void)state;
    static uint8_t room[INPUT_MAX];
    for (int round = 0; round < 300; round++)
        check_everywhere(random_mail(room, random_below(270), random_below(3)));
}

static void test_random_long(void **state)
{
    (void)state;
    static uint8_t room[INPUT_MAX];
    static struct outcome wanted;
    for (int round = 0; round < 4000; round++) {
        struct bytes in = random_mail(room, random_below(INPUT_MAX), random_below(3));
        size_t second = random_below((uint32_t)in.len + 1);
        size_t first = random_below((uint32_t)second + 1);
        bool stuffed = random_below(4) > 0;
        oracle(in, stuffed, &wanted);
        for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++)
            if (scan_choose(kind))
                check_split(in, first, second, stuffed, round & 1 ? AT_END : AT_START, &wanted);
    }
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    static uint8_t room[INPUT_MAX];
    static struct outcome wanted, got;
    for (int round = 0; round < 200; round++) {
        struct bytes in = random_mail(room, random_below(500), random_below(3));
        bool stuffed = round % 4 != 0;
        oracle(in, stuffed, &wanted);
        for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
            if (!scan_choose(kind))
                continue;
            got.scan = (struct scan){.lengths = round % 2 == 0};
            got.taken = got.text_len = 0;
            for (size_t i = 0; i < in.len; i++)
                feed(&got, bytes_slice(in, i, i + 1), stuffed, AT_END);
            assert_same(&got, &wanted);
        }
    }
}

static void check_line_max(struct bytes in, size_t split, uint32_t longest)
{
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
        if (!scan_choose(kind))
            continue;
        struct scan data = {.lengths = true}, text = {.lengths = true};
        struct bytes span, rest = guard_at_end(&guard, in);
        scan_data(&data, bytes_slice(rest, 0, split), &span);
        scan_data(&data, bytes_skip(rest, split), &span);
        scan_text(&text, bytes_slice(rest, 0, split));
        scan_text(&text, bytes_skip(rest, split));
        assert_int_equal(data.line_max, longest);
        assert_int_equal(text.line_max, longest);
        assert_int_equal(data.line_len, 0);
    }
}

/* A line of each length after a line of another: the maximum is exact wherever both lie in their
 * blocks, which the split moves along. */
static void test_line_max(void **state)
{
    (void)state;
    static uint8_t room[512];
    for (size_t before = 0; before < 70; before++)
        for (size_t len = 0; len < 140; len++) {
            memset(room, 'x', sizeof(room));
            memcpy(room + before, "\r\n", 2);
            memcpy(room + before + 2 + len, "\r\nend\r\n", 7);
            struct bytes in = bytes_make(room, before + len + 9);
            size_t longest = before > len ? before : len;
            for (size_t split = 0; split < 70 && split < in.len; split++)
                check_line_max(in, split, (uint32_t)(longest > 3 ? longest : 3));
        }
}

/* Lengths beyond 32 bits stay at the largest number instead of beginning again at 0. */
static void test_line_len_saturates(void **state)
{
    (void)state;
    static uint8_t room[200];
    memset(room, 'x', sizeof(room));
    memcpy(room + 190, "\r\nyyyy", 6);
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
        if (!scan_choose(kind))
            continue;
        struct scan scan = {
            .position = SCAN_IN_LINE, .lengths = true, .line_len = UINT32_MAX - 100, .line_max = 5};
        scan_text(&scan, bytes_make(room, 100));
        assert_int_equal(scan.line_len, UINT32_MAX);
        assert_int_equal(scan.line_max, UINT32_MAX);
        scan_text(&scan, bytes_make(room, 100));
        assert_int_equal(scan.line_len, UINT32_MAX);
        scan_text(&scan, bytes_make(room, 195));
        assert_int_equal(scan.line_len, 3);
        assert_int_equal(scan.line_max, UINT32_MAX);
    }
}

static void test_text_end(void **state)
{
    (void)state;
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
        if (!scan_choose(kind))
            continue;
        struct scan scan = {.lengths = true};
        scan_text(&scan, guard_at_end(&guard, BYTES("ab\r")));
        assert_int_equal(scan.seen, 0);
        assert_int_equal(scan.line_max, 2);
        scan_text_end(&scan);
        assert_int_equal(scan.seen, SCAN_SEEN_BARE_CR);
        assert_int_equal(scan.line_max, 3);

        scan = (struct scan){.lengths = true};
        scan_text(&scan, guard_at_end(&guard, BYTES(".\r\n..\r\nab\r\n")));
        scan_text_end(&scan);
        assert_int_equal(scan.seen, 0);
        assert_int_equal(scan.line_max, 2);
        assert_int_equal(scan.position, SCAN_LINE_START);
    }
}

static void test_nothing_after_the_end(void **state)
{
    (void)state;
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
        if (!scan_choose(kind))
            continue;
        struct scan scan = {.position = SCAN_ENDED};
        struct bytes span = BYTES("x");
        assert_int_equal(scan_data(&scan, BYTES("RSET\r\n\n\0"), &span), 0);
        assert_int_equal(span.len, 0);
        assert_int_equal(scan.seen, 0);
        scan = (struct scan){0};
        assert_int_equal(scan_data(&scan, bytes_make(NULL, 0), &span), 0);
        assert_int_equal(scan.position, SCAN_LINE_START);
    }
}

static void test_choose(void **state)
{
    (void)state;
    assert_true(scan_choose(SCAN_SCALAR));
    assert_false(scan_choose(SCAN_KIND_COUNT));
    assert_true(scan_choose(SCAN_AVX2) || scan_choose_best() != SCAN_AVX512);
    assert_false(scan_choose(SCAN_NEON) && scan_choose(SCAN_SSE2));
    enum scan_kind best = scan_choose_best();
    assert_true(scan_choose(best));
    assert_true(best != SCAN_SCALAR || !(scan_choose(SCAN_SSE2) || scan_choose(SCAN_NEON)));
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++)
        print_message("  %-7s %s\n", scan_kind_name(kind),
                      scan_choose(kind) ? "tested" : "skipped: this machine does not have it");
}

int main(void)
{
    guard = guard_make(INPUT_MAX);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),      cmocka_unit_test(test_examples),
        cmocka_unit_test(test_smuggling),   cmocka_unit_test(test_random_every_split),
        cmocka_unit_test(test_random_long), cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_line_max),    cmocka_unit_test(test_line_len_saturates),
        cmocka_unit_test(test_text_end),    cmocka_unit_test(test_nothing_after_the_end),
    };
    int failed = cmocka_run_group_tests_name("scan", tests, NULL, NULL);
    guard_free(&guard);
    return failed;
}
