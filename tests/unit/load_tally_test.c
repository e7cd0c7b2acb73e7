/* load/tally: everything that is counted is added up, and what fails or spoils a run is what
 * docs/load.md says. */
#include "bench/load/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct tally *tally_new(void)
{
    struct tally *tally = calloc(1, sizeof *tally);
    assert_non_null(tally);
    return tally;
}

/* Sets every count to a number of its own, from `first` on. All of them lie before `threads`, or in
 * `tls`. */
static void fill(struct tally *tally, uint64_t first)
{
    for (uint64_t *count = &tally->acked; count <= &tally->threads; count++)
        *count = first++;
    struct tally_tls *tls = &tally->tls;
    for (uint64_t *count = &tls->handshakes; count < (uint64_t *)(void *)tls->groups; count++)
        *count = first++;
    tally_tls_group(tls, "X25519", first);
    tally_tls_group(tls, first % 2 == 0 ? "P-256" : "P-384", first + 1);
    tally->seconds = (double)first;
    tally->cpu_seconds = (double)first;
    tally->busiest = 1 / (double)first;
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++)
        histogram_add(&tally->times[i], first + i);
}

static void test_add(void **state)
{
    (void)state;
    struct tally *sum = tally_new(), *one = tally_new(), *other = tally_new();
    fill(one, 1000);
    fill(other, 5001);
    tally_add(sum, one);
    assert_memory_equal(sum, one, sizeof *one);
    tally_add(sum, other);
    for (size_t i = 0; &one->acked + i <= &one->threads; i++)
        assert_int_equal((&sum->acked)[i], (&one->acked)[i] + (&other->acked)[i]);
    for (uint64_t *at = &sum->tls.handshakes, *a = &one->tls.handshakes,
                  *b = &other->tls.handshakes;
         at < (uint64_t *)(void *)sum->tls.groups; at++, a++, b++)
        assert_int_equal(*at, *a + *b);
    assert_string_equal(sum->tls.groups[0].name, "X25519");
    assert_int_equal(sum->tls.groups[0].count,
                     one->tls.groups[0].count + other->tls.groups[0].count);
    assert_string_equal(sum->tls.groups[1].name, one->tls.groups[1].name);
    assert_int_equal(sum->tls.groups[1].count, one->tls.groups[1].count);
    assert_string_equal(sum->tls.groups[2].name, other->tls.groups[1].name);
    assert_int_equal(sum->tls.groups[2].count, other->tls.groups[1].count);
    assert_null(sum->tls.groups[3].name);
    assert_true(sum->seconds == other->seconds);
    assert_true(sum->cpu_seconds == one->cpu_seconds + other->cpu_seconds);
    assert_true(sum->busiest == one->busiest);
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++) {
        assert_int_equal(sum->times[i].count, 2);
        assert_int_equal(sum->times[i].sum_ns, one->times[i].sum_ns + other->times[i].sum_ns);
    }
    free(sum);
    free(one);
    free(other);
}

static void test_groups_full(void **state)
{
    (void)state;
    struct tally *tally = tally_new();
    static const char names[TALLY_GROUPS_MAX + 2][3] = {"g0", "g1", "g2", "g3", "g4",
                                                        "g5", "g6", "g7", "g8", "g9"};
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < TALLY_GROUPS_MAX + 2; i++)
            tally_tls_group(&tally->tls, names[i], i + 1);
    for (unsigned i = 0; i < TALLY_GROUPS_MAX; i++)
        assert_int_equal(tally->tls.groups[i].count, 2 * (i + 1));
    free(tally);
}

static void test_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++) {
        assert_non_null(tally_time_names[i]);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(tally_time_names[i], tally_time_names[k]);
    }
}

/* Each count alone, with and without --reconnect. */
static void test_failed(void **state)
{
    (void)state;
    struct tally *tally = tally_new();
    struct load_options options = {.loop = LOAD_LOOP_CLOSED}, again = {.reconnect = true};
    struct {
        uint64_t *count;
        bool fails, fails_again;
    } cases[] = {
        {&tally->acked,       false, false},
        {&tally->counted,     false, false},
        {&tally->offered,     false, false},
        {&tally->opened,      false, false},
        {&tally->aborted[3],  false, false},
        {&tally->failed,      true,  true },
        {&tally->unfinished,  true,  true },
        {&tally->unstarted,   true,  true },
        {&tally->tls.failed,  true,  true },
        {&tally->tls.broken,  true,  true },
        {&tally->tls.resumed, false, false},
        {&tally->lost,        true,  false},
        {&tally->unopened,    true,  false},
        {&tally->broken,      true,  false},
    };
    assert_false(tally_failed(tally, &options));
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        *cases[i].count = 1;
        assert_int_equal(tally_failed(tally, &options), cases[i].fails);
        assert_int_equal(tally_failed(tally, &again), cases[i].fails_again);
        *cases[i].count = 0;
    }
    /* A handshake that failed because the connection ended is a lost connection. */
    tally->tls.failed = tally->tls.reasons[TALLY_TLS_LOST] = 2;
    assert_true(tally_failed(tally, &options));
    assert_false(tally_failed(tally, &again));
    tally->tls.failed = 3;
    tally->tls.reasons[TLS_FAILURE_CERTIFICATE] = 1;
    assert_true(tally_failed(tally, &again));
    free(tally);
}

static void test_nothing_acknowledged(void **state)
{
    (void)state;
    struct tally *tally = tally_new();
    struct load_options closed = {.loop = LOAD_LOOP_CLOSED, .connections = 1, .reconnect = true};
    struct load_options open = {.loop = LOAD_LOOP_MESSAGES, .connections = 1, .reconnect = true};
    assert_true(tally_failed(tally, &closed));
    assert_false(tally_failed(tally, &open)); /* nothing was due */
    tally->offered = 1;
    assert_true(tally_failed(tally, &open));
    tally->aborted[LOAD_PHASE_EHLO] = 1;
    assert_false(tally_failed(tally, &closed) || tally_failed(tally, &open));
    tally->aborted[LOAD_PHASE_EHLO] = 0;
    tally->acked = 1;
    assert_false(tally_failed(tally, &closed) || tally_failed(tally, &open));
    free(tally);
}

/* `late` of 1000 starts are `late_ns` late, the others 10 us. */
static bool invalid(enum load_loop loop, unsigned late, uint64_t late_ns, double busiest,
                    char *reasons, size_t size)
{
    struct tally *tally = tally_new();
    struct load_options options = {.loop = loop};
    for (unsigned i = 0; i < 1000; i++)
        histogram_add(&tally->times[TALLY_LATENESS], i < late ? late_ns : 10000);
    tally->busiest = busiest;
    tally->seconds = 0.02;
    bool result = tally_invalid(tally, &options, reasons, size);
    free(tally);
    return result;
}

static void test_invalid(void **state)
{
    (void)state;
    char reasons[400] = "x";
    for (enum load_loop loop = LOAD_LOOP_MESSAGES; loop <= LOAD_LOOP_CONNECTIONS; loop++) {
        assert_false(invalid(loop, 10, 5000000, 0.7, reasons, sizeof reasons));
        assert_string_equal(reasons, "");
        assert_false(invalid(loop, 1000, 1000000, 0.1, reasons, sizeof reasons));
        assert_true(invalid(loop, 11, 5000000, 0.7, reasons, sizeof reasons));
        assert_non_null(strstr(reasons, "5.000 ms"));
        assert_null(strstr(reasons, "; "));
        assert_true(invalid(loop, 0, 0, 0.71, reasons, sizeof reasons));
        assert_non_null(strstr(reasons, "71%"));
        assert_null(strstr(reasons, "; "));
        assert_true(invalid(loop, 1000, 2000000, 0.9, reasons, sizeof reasons));
        assert_non_null(strstr(reasons, "; "));
    }
    assert_false(invalid(LOAD_LOOP_CLOSED, 1000, 9000000, 1, reasons, sizeof reasons));
    assert_string_equal(reasons, "");
}

/* In a sweep a tenth of its limit is the most that starts may be late, and never more than 1 ms. */
static void test_sweep(void **state)
{
    (void)state;
    char reasons[400];
    struct tally *tally = tally_new();
    const struct {
        uint64_t limit_us, late_us;
        bool invalid;
    } cases[] = {
        {500,    49,   false},
        {500,    51,   true },
        {10000,  990,  false},
        {10000,  1010, true },
        {100000, 990,  false},
        {100000, 1010, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct load_options options = {.loop = LOAD_LOOP_MESSAGES,
                                             .sweep_p99_us = cases[i].limit_us};
        memset(&tally->times[TALLY_LATENESS], 0, sizeof tally->times[0]);
        histogram_add(&tally->times[TALLY_LATENESS], cases[i].late_us * 1000);
        assert_int_equal(tally_invalid(tally, &options, reasons, sizeof reasons), cases[i].invalid);
        if (i == 1)
            assert_non_null(strstr(reasons, "(0.05 ms is allowed)"));
    }
    free(tally);
}

static void test_short(void **state)
{
    (void)state;
    char reasons[400];
    struct tally *tally = tally_new();
    const struct load_options options = {.loop = LOAD_LOOP_MESSAGES};
    tally->busiest = 8;
    tally->seconds = 0.01;
    assert_false(tally_invalid(tally, &options, reasons, sizeof reasons));
    free(tally);
}

/* A reader with little room gets the beginning, and the answer all the same. */
static void test_little_room(void **state)
{
    (void)state;
    char whole[400], reasons[400];
    assert_true(invalid(LOAD_LOOP_MESSAGES, 1000, 2000000, 0.9, whole, sizeof whole));
    for (size_t size = 2; size <= strlen(whole) + 1; size++) {
        reasons[size] = '#';
        assert_true(invalid(LOAD_LOOP_MESSAGES, 1000, 2000000, 0.9, reasons, size));
        assert_int_equal(reasons[size], '#');
        assert_int_equal(strlen(reasons), size - 1);
        assert_memory_equal(reasons, whole, size - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_acknowledged),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_groups_full),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_little_room),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_sweep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
