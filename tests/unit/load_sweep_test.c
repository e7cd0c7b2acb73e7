/* load/sweep: the search finds the knee of made-up servers within 5% and in few steps, and each
 * step is judged as docs/load.md says. The crew is one of this test's own. */
#include "bench/load/sweep.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/load/crew.h"
#include "bench/load/report.h"

enum { LIMIT_US = 10000 };

/* ---- the search ---- */

/* A server that holds every rate up to `knee`, and a generator that is good for `valid`. Returns
 * the number of steps. */
static unsigned search(struct sweep *sweep, double start, double knee, double valid)
{
    unsigned steps = 0;
    sweep_start(sweep, start);
    while (!sweep->over) {
        assert_true(steps++ < 100);
        sweep_step(sweep, sweep->rate > valid  ? SWEEP_INVALID
                          : sweep->rate > knee ? SWEEP_FAILED
                                               : SWEEP_HELD);
    }
    return steps;
}

static void test_knee(void **state)
{
    (void)state;
    for (double knee = 1.1; knee < 1e6; knee *= 1.07) {
        for (double start = 1; start <= 1e5; start *= 10) {
            struct sweep sweep;
            unsigned steps = search(&sweep, start, knee, INFINITY);
            double octaves = fabs(log2(knee / start));
            if (sweep.held <= 0) /* it lies just above one, and starts were not */
                assert_true(knee < 2);
            else
                assert_true(sweep.held <= knee && sweep.held >= knee / 1.05);
            assert_false(sweep.at_least);
            assert_true(steps <= octaves + 9);
        }
    }
}

static void test_never(void **state)
{
    (void)state;
    struct sweep sweep;
    assert_int_equal(search(&sweep, 100, 0, INFINITY), 7); /* 100, 50 ... 1.56 */
    assert_true(sweep.held == 0);
    assert_false(sweep.at_least);
    assert_int_equal(search(&sweep, 1, 0, INFINITY), 1);
}

static void test_always(void **state)
{
    (void)state;
    struct sweep sweep;
    assert_true(search(&sweep, 100, INFINITY, INFINITY) < 30);
    assert_true(sweep.held >= 5e7);
    assert_true(sweep.at_least);
}

static void test_invalid(void **state)
{
    (void)state;
    struct sweep sweep;
    assert_int_equal(search(&sweep, 100, 1e9, 1000), 7); /* 100 ... 800, and three times 1600 */
    assert_true(sweep.held == 800);
    assert_true(sweep.at_least);
    assert_int_equal(search(&sweep, 100, 1e9, 10), 3);
    assert_true(sweep.held == 0);
    assert_true(sweep.at_least);
}

/* Two disturbances at each rate do no harm, and those at one are not counted at the next. */
static void test_disturbed(void **state)
{
    (void)state;
    struct sweep sweep;
    unsigned steps = 0;
    sweep_start(&sweep, 100);
    for (unsigned i = 0; !sweep.over && i < 1000; i++, steps++) {
        double rate = sweep.rate;
        if (i % 3 < 2) {
            sweep_step(&sweep, SWEEP_INVALID);
            assert_true(sweep.rate == rate);
        } else {
            sweep_step(&sweep, rate > 1000 ? SWEEP_FAILED : SWEEP_HELD);
        }
    }
    assert_true(sweep.held <= 1000 && sweep.held >= 1000 / 1.05);
    assert_false(sweep.at_least);
    assert_true(steps <= 3 * 13);
}

/* A hiccup at each rate does no harm, those at one are not counted at the next; the second one
 * does. */
static void test_hiccups(void **state)
{
    (void)state;
    for (unsigned hiccups = 1; hiccups <= 2; hiccups++) {
        struct sweep sweep;
        unsigned steps = 0;
        sweep_start(&sweep, 100);
        while (!sweep.over) {
            double rate = sweep.rate;
            assert_true(steps < 100);
            bool again = steps++ % 2 == 0 || hiccups == 2;
            sweep_step(&sweep, again ? SWEEP_SLOW : rate > 1000 ? SWEEP_FAILED : SWEEP_HELD);
            if (again && steps % 2 != 0)
                assert_true(sweep.rate == rate && !sweep.over);
        }
        if (hiccups == 1)
            assert_true(sweep.held <= 1000 && sweep.held >= 1000 / 1.05);
        else
            assert_true(sweep.held == 0 && steps == 14);
    }
}

/* What held only once is not the knee. */
static void test_checked(void **state)
{
    (void)state;
    for (double again = 1000; again > 0.5; again *= 0.8) {
        struct sweep sweep;
        unsigned steps = 0, checks = 0;
        sweep_start(&sweep, 100);
        while (!sweep.over) {
            assert_true(steps++ < 200);
            checks += sweep.checking;
            sweep_step(&sweep,
                       sweep.rate > (sweep.checking ? again : 1000) ? SWEEP_FAILED : SWEEP_HELD);
        }
        assert_true(checks >= 1);
        assert_false(sweep.at_least);
        if (sweep.held > 0)
            assert_true(sweep.held <= again && sweep.held >= again / 1.051);
        else
            assert_true(again < 1.06);
        assert_true(sweep.held <= 0 || sweep.failed / sweep.held < 1.051);
    }
}

/* 50 times the limit, a thousand arrivals but not more than ten seconds of them, or what was asked
 * for. */
static void test_seconds(void **state)
{
    (void)state;
    const struct {
        double seconds, rate;
        uint64_t limit_us;
        double expected;
    } cases[] = {
        {1,   20000, 10000,   1    },
        {0.1, 20000, 10000,   0.5  },
        {1,   20000, 1000000, 50   },
        {1,   500,   2000,    2    },
        {1,   50,    2000,    10   },
        {30,  50,    2000,    30   },
        {30,  50,    1000000, 50   },
        {0.1, 8000,  500,     0.125},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct load_options options = {
            .seconds = cases[i].seconds, .rate = cases[i].rate, .sweep_p99_us = cases[i].limit_us};
        assert_true(fabs(sweep_seconds(&options) - cases[i].expected) < 1e-9);
    }
}

/* ---- the runs ---- */

/* What the server does at rates above `knee`, and what the generator's lateness is there. */
static struct {
    double knee;
    uint64_t slow_us, late_us;
    unsigned slow_from, late_from; /* of 1000 */
    unsigned hiccup_at;            /* the run in which latencies are slow at any rate */
    double aborted;                /* share of what was offered */
    enum load_phase phase;
    double answered; /* share of what was offered */
    uint64_t failed, unfinished;
    double busiest;
    unsigned runs, interrupted_at, broken_at;
    uint32_t run; /* of the ids */
} play;

bool crew_interrupted(void)
{
    return play.interrupted_at > 0 && play.runs >= play.interrupted_at;
}

bool crew_run(const struct load_options *options, const struct mail *mail, struct tally *tally,
              struct series **series)
{
    bool above = options->rate > play.knee || play.runs + 1 == play.hiccup_at;
    bool connections = options->loop == LOAD_LOOP_CONNECTIONS;
    assert_null(mail);
    play.runs++;
    assert_int_equal(play.run, options->mail.run + play.runs - 1); /* no id stands twice */
    assert_true(options->seconds == sweep_seconds(options));
    memset(tally, 0, sizeof *tally);
    *series = series_new(1);
    if (play.runs == play.broken_at)
        return false;
    tally->threads = 1;
    tally->seconds = options->seconds;
    tally->offered = (uint64_t)(options->rate * options->seconds);
    tally->counted = (uint64_t)((double)tally->offered * (above ? play.answered : 1));
    tally->acked = tally->counted;
    tally->failed = above ? play.failed : 0;
    tally->unfinished = above ? play.unfinished : 0;
    tally->aborted[play.phase] = (uint64_t)((double)tally->offered * play.aborted);
    tally->busiest = above ? play.busiest : 0.1;
    for (unsigned i = 0; i < 1000; i++) {
        bool late = above && i >= play.late_from;
        uint64_t latency_ns = above && i >= play.slow_from ? play.slow_us * 1000 : 1000000;
        histogram_add(&tally->times[TALLY_LATENESS], late ? play.late_us * 1000 : 1000);
        histogram_add(&tally->times[TALLY_MESSAGE], connections ? 99000000 : latency_ns);
        if (connections)
            histogram_add(&tally->times[TALLY_CONNECTION], latency_ns);
    }
    if (connections)
        tally->counted *= 3;
    return true;
}

void mail_rename(struct mail *mail, uint32_t run)
{
    assert_null(mail);
    play.run = run;
}

double mail_size_mean(const struct mail *mail)
{
    assert_null(mail);
    return 4096;
}

uint64_t mail_left_out(const struct mail *mail)
{
    assert_null(mail);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    memset(&play, 0, sizeof play);
    play.knee = 1000;
    play.slow_us = 1000;
    play.slow_from = play.late_from = 980;
    play.answered = 1;
    return 0;
}

static const struct load_options some = {
    .seconds = 5, .rate = 100, .sweep_p99_us = LIMIT_US, .loop = LOAD_LOOP_MESSAGES};

/* Returns the exit code, and what was printed. */
static int sweep_printed(const struct load_options *options, char *text, size_t size)
{
    char path[] = "/tmp/sweep-XXXXXX";
    int file = mkstemp(path), before = dup(STDOUT_FILENO);
    assert_true(file >= 0 && before >= 0);
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    play.runs = 0;
    int code = sweep_run(options, NULL);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    ssize_t len = pread(file, text, size - 1, 0);
    assert_in_range(len, 0, size - 2);
    text[len] = '\0';
    close(file);
    unlink(path);
    return code;
}

/* The knee as it was printed, and what the first step above it was called. */
static double knee_of(const char *text, const char *why)
{
    const char *found = strstr(text, "knee: ");
    assert_non_null(found);
    if (strstr(text, why) == NULL)
        fail_msg("no \"%s\" in:\n%s", why, text);
    found += strlen("knee: ");
    found += strncmp(found, "at least ", 9) == 0 ? 9 : 0;
    return strtod(found, NULL);
}

static void check_knee(const char *why)
{
    char text[8192], line[128];
    assert_int_equal(sweep_printed(&some, text, sizeof text), 0);
    snprintf(line, sizeof line, "1600.0/s,   5.00 s  p50 %9.3f ms  p99 %9.3f ms  failed: ",
             play.slow_from < 500 ? (double)play.slow_us / 1e3 : 1, (double)play.slow_us / 1e3);
    assert_non_null(strstr(text, line));
    assert_non_null(strstr(text, " 800.0/s,   5.00 s  p50     1.000 ms  p99     1.000 ms  held\n"));
    double knee = knee_of(text, why);
    assert_true(knee <= 1000 && knee >= 1000 / 1.05);
    unsigned lines = 0;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    assert_int_equal(lines, play.runs + 1);
}

static void test_judged(void **state)
{
    play.slow_us = 20000;
    check_knee("failed: p99 is above 10.000 ms");
    set_up(state);
    play.failed = 1;
    check_knee("failed: transactions or connections failed");
    play.late_us = 5000; /* it is late, too, but has no part in this */
    check_knee("failed: transactions or connections failed");
    set_up(state);
    play.unfinished = 1;
    check_knee("failed: transactions or connections failed");
    set_up(state);
    play.answered = 0.95;
    check_knee("messages were answered in time");
    /* Late or busy, but half of all was slow, and half of the starts in time. */
    set_up(state);
    play.slow_us = 30000;
    play.slow_from = 400;
    play.late_us = 19000;
    play.busiest = 0.89;
    check_knee("failed: p99 is above 10.000 ms");
}

/* A hiccup at a rate that holds costs one step, whichever it is. */
static void test_hiccup(void **state)
{
    char text[8192];
    play.slow_us = 20000;
    assert_int_equal(sweep_printed(&some, text, sizeof text), 0);
    double knee = knee_of(text, "held");
    unsigned runs = play.runs;
    for (unsigned i = 1; i <= runs; i++) {
        play.hiccup_at = i;
        assert_int_equal(sweep_printed(&some, text, sizeof text), 0);
        assert_true(knee_of(text, "held") == knee);
        assert_in_range(play.runs, runs, runs + 1);
    }
    set_up(state);
    play.failed = 1; /* that is no hiccup */
    play.slow_us = 20000;
    play.hiccup_at = 1;
    assert_int_equal(sweep_printed(&some, text, sizeof text), 0);
    assert_true(knee_of(text, "held") < 100);
}

/* What we broke off ourselves is not missed, and what that does not explain is. */
static void test_aborted(void **state)
{
    static const struct {
        enum load_loop loop;
        enum load_phase phase;
        double aborted;
        int code;
    } cases[] = {
        {LOAD_LOOP_MESSAGES,    LOAD_PHASE_MAIL,     0.2, 3},
        {LOAD_LOOP_MESSAGES,    LOAD_PHASE_DOT,      0.2, 3},
        {LOAD_LOOP_MESSAGES,    LOAD_PHASE_DOT,      0.1, 1},
        {LOAD_LOOP_MESSAGES,    LOAD_PHASE_EHLO,     0.2, 1}, /* another connection takes it */
        {LOAD_LOOP_MESSAGES,    LOAD_PHASE_QUIT,     0.2, 1},
        {LOAD_LOOP_CONNECTIONS, LOAD_PHASE_CONNECT,  0.2, 3},
        {LOAD_LOOP_CONNECTIONS, LOAD_PHASE_DOT,      0.2, 3},
        {LOAD_LOOP_CONNECTIONS, LOAD_PHASE_STARTTLS, 0.1, 1},
        {LOAD_LOOP_CONNECTIONS, LOAD_PHASE_QUIT,     0.2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[8192];
        struct load_options options = some;
        set_up(state);
        play.knee = 0;
        play.answered = 0.8;
        play.aborted = cases[i].aborted;
        play.phase = cases[i].phase;
        options.loop = cases[i].loop;
        options.messages_per_connection = (struct words_range){3, 3};
        assert_int_equal(sweep_printed(&options, text, sizeof text), cases[i].code);
    }
}

/* What comes in the last moments may be answered after them: with a limit of a second, a second of
 * fifty. */
static void test_edge(void **state)
{
    (void)state;
    char text[8192];
    struct load_options options = some;
    options.sweep_p99_us = 1000000;
    play.knee = 0;
    play.answered = 0.965;
    assert_int_equal(sweep_printed(&options, text, sizeof text), 3); /* without end */
    assert_null(strstr(text, "failed"));
    play.answered = 0.955;
    assert_int_equal(sweep_printed(&options, text, sizeof text), 0); /* of few, one is a lot */
    assert_non_null(
        strstr(text, "/s,  50.00 s  p50     1.000 ms  p99     1.000 ms  failed: only 4775 mess"));
    assert_true(knee_of(text, "knee: ") < 20);
}

static void check_at_least(const char *why)
{
    char text[8192];
    assert_int_equal(sweep_printed(&some, text, sizeof text), 3);
    assert_true(knee_of(text, why) == 800);
    assert_non_null(strstr(text, "knee: at least"));
    assert_int_equal(play.runs, 7);
}

static void test_judged_invalid(void **state)
{
    play.late_us = 2000;
    check_at_least("invalid: the run is invalid: 1% of the starts were 2.0");
    set_up(state);
    play.busiest = 0.9;
    check_at_least("90% of its CPU");
    /* As late as the answers are: the server is not to blame. */
    set_up(state);
    play.slow_us = 30000;
    play.late_us = 21000;
    play.unfinished = 1;
    check_at_least("invalid: ");
    /* Not even if most of them are late, or the thread is so busy that it is what is slow. */
    play.slow_from = play.late_from = 400;
    check_at_least("invalid: ");
    play.late_from = 1000;
    play.busiest = 0.95;
    check_at_least("invalid: ");
    /* A late thread is late twice: in the start, and when the answer comes. */
    set_up(state);
    play.slow_us = 30000;
    play.late_us = 11000;
    check_at_least("invalid: ");
    /* Within the edges: a little less than all was answered, and one start in a hundred late. */
    set_up(state);
    play.slow_us = LIMIT_US;
    play.late_us = 1000;
    play.answered = 0.985;
    play.busiest = 0.7;
    play.knee = 0;
    char text[8192];
    assert_int_equal(sweep_printed(&some, text, sizeof text), 3);
    assert_null(strstr(text, "failed"));
}

static void test_connections(void **state)
{
    (void)state;
    char text[8192];
    struct load_options options = some;
    options.loop = LOAD_LOOP_CONNECTIONS;
    options.messages_per_connection = (struct words_range){1, 5};
    play.slow_us = 20000;
    assert_int_equal(sweep_printed(&options, text, sizeof text), 0);
    double knee = knee_of(text, "connections a second");
    assert_true(knee <= 1000 && knee >= 1000 / 1.05);
    options.messages_per_connection = (struct words_range){3, 5}; /* 4 each, but only 3 came */
    assert_int_equal(sweep_printed(&options, text, sizeof text), 1);
    assert_non_null(strstr(text, "answered in time"));
    assert_non_null(strstr(text, "knee: none"));
}

static void test_ended(void **state)
{
    (void)state;
    char text[8192];
    play.knee = 1e6;
    play.interrupted_at = 3;
    assert_int_equal(sweep_printed(&some, text, sizeof text), 130);
    assert_true(knee_of(text, "knee: at least") == 200);
    assert_int_equal(play.runs, 3);
    set_up(NULL);
    play.knee = 1e6;
    play.broken_at = 2;
    assert_int_equal(sweep_printed(&some, text, sizeof text), 2);
    assert_int_equal(play.runs, 2);
    assert_true(knee_of(text, "knee: at least") == 100);
}

static void test_json(void **state)
{
    (void)state;
    static char text[1 << 20];
    struct load_options options = some;
    options.json = true;
    play.slow_us = 20000;
    assert_int_equal(sweep_printed(&options, text, sizeof text), 0);
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    double knee = json_real_value(json_object_get(object, "knee"));
    assert_true(knee <= 1000 && knee >= 1000 / 1.05);
    assert_true(json_is_false(json_object_get(object, "at_least")));
    json_t *steps = json_object_get(object, "steps"), *step;
    size_t index;
    assert_int_equal(json_array_size(steps), play.runs);
    json_array_foreach(steps, index, step)
    {
        double rate = json_real_value(json_object_get(step, "rate"));
        assert_true(index > 0 || rate == 100);
        assert_int_equal(json_is_true(json_object_get(step, "held")), rate <= 1000);
        assert_string_equal(json_string_value(json_object_get(step, "loop")), "open, messages");
    }
    assert_int_equal(json_integer_value(json_object_get(object, "p99_us")), LIMIT_US);
    json_decref(object);
    set_up(NULL);
    play.interrupted_at = 1;
    assert_int_equal(sweep_printed(&options, text, sizeof text), 130);
    object = json_loads(text, 0, NULL);
    assert_non_null(object);
    assert_true(json_is_null(json_object_get(object, "knee")));
    assert_true(json_is_true(json_object_get(object, "at_least")));
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_knee),
        cmocka_unit_test(test_never),
        cmocka_unit_test(test_always),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_disturbed),
        cmocka_unit_test(test_hiccups),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test_setup(test_judged, set_up),
        cmocka_unit_test_setup(test_hiccup, set_up),
        cmocka_unit_test_setup(test_aborted, set_up),
        cmocka_unit_test_setup(test_edge, set_up),
        cmocka_unit_test_setup(test_judged_invalid, set_up),
        cmocka_unit_test_setup(test_connections, set_up),
        cmocka_unit_test_setup(test_ended, set_up),
        cmocka_unit_test_setup(test_json, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
