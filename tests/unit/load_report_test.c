/* load/report: the JSON has what docs/load.md lists, with the numbers of the tally; the table shows
 * the same to people, and no lines about what did not happen. */
#include "bench/load/report.h"

#include "bench/load/crew.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct tally *tally;
static struct series *series;
static uint64_t left_out;
static bool interrupted;
static char text[16384];

bool crew_interrupted(void)
{
    return interrupted;
}

double mail_size_mean(const struct mail *mail)
{
    assert_null(mail);
    return 4096.5;
}

uint64_t mail_left_out(const struct mail *mail)
{
    assert_null(mail);
    return left_out;
}

static int set_up(void **state)
{
    (void)state;
    tally = calloc(1, sizeof *tally);
    series = series_new(1);
    left_out = 0;
    interrupted = false;
    return tally == NULL || series == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    free(tally);
    series_free(series);
    return 0;
}

static void printed(const struct load_options *options)
{
    char path[] = "/tmp/report-XXXXXX";
    int file = mkstemp(path), before = dup(STDOUT_FILENO);
    assert_true(file >= 0 && before >= 0);
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    report_print(tally, series, options, NULL);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    ssize_t len = pread(file, text, sizeof text - 1, 0);
    assert_in_range(len, 1, sizeof text - 2);
    text[len] = '\0';
    close(file);
    unlink(path);
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n") + 1)
        assert_in_range(strcspn(at, "\n"), 0, 100);
}

static void assert_shown(const char *what)
{
    if (strstr(text, what) == NULL)
        fail_msg("no \"%s\" in:\n%s", what, text);
}

static void assert_not_shown(const char *what)
{
    if (strstr(text, what) != NULL)
        fail_msg("\"%s\" in:\n%s", what, text);
}

static json_t *member(json_t *object, const char *path)
{
    char name[64];
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        object = json_object_get(object, name);
        if (object == NULL)
            fail_msg("no member %s", name);
        path += len + (path[len] == '/');
    }
    return object;
}

/* As exact as a histogram is. */
static void assert_number(json_t *object, const char *path, double expected)
{
    double found = json_number_value(member(object, path));
    if (found < expected * 0.9995 || found > expected * 1.0005)
        fail_msg("%s is %.9f, not %.9f", path, found, expected);
}

static json_t *reported(const struct load_options *options)
{
    json_t *object = report_json(tally, series, options, NULL), *read;
    char *dumped = json_dumps(object, REPORT_JSON_FLAGS);
    json_decref(object);
    assert_non_null(dumped);
    read = json_loads(dumped, 0, NULL);
    assert_non_null(read);
    free(dumped);
    return read;
}

static void fill(void)
{
    static struct histogram empty;
    tally->acked = 1200;
    tally->counted = 1000;
    tally->octets = 4096500;
    tally->failed = 1;
    tally->lost = 2;
    tally->unfinished = 3;
    tally->unstarted = 4;
    tally->offered = 1010;
    tally->opened = 20;
    tally->unopened = 5;
    tally->broken = 6;
    tally->lock_step = 7;
    tally->aborted[LOAD_PHASE_MAIL] = 8;
    tally->aborted[LOAD_PHASE_DOT] = 9;
    tally->codes[0] = 10;
    tally->codes[450] = 11;
    tally->threads = 2;
    tally->seconds = 2;
    tally->cpu_seconds = 1.25;
    tally->busiest = 0.5;
    for (unsigned i = 1; i <= 1000; i++)
        histogram_add(&tally->times[TALLY_MESSAGE], i * UINT64_C(1000));
    histogram_add(&tally->times[TALLY_DOT], UINT64_C(2500000000));
    series_hand_in(series, 0, 600, 1, 2, &tally->times[TALLY_DOT]);
    series_hand_in(series, 1, 400, 3, 4, &empty);
    left_out = 12;
}

static void fill_tls(void)
{
    struct tally_tls *tls = &tally->tls;
    tls->handshakes = 100;
    tls->counted = 90;
    tls->resumed = 80;
    tls->resumed_counted = 70;
    tls->failed = 6;
    tls->broken = 5;
    tls->versions[TLS_1_2] = 40;
    tls->versions[TLS_1_3] = 60;
    tls->ciphers[1] = 100;
    tls->reasons[TALLY_TLS_LOST] = 4;
    tls->reasons[TLS_FAILURE_ALERT] = 2;
    tally_tls_group(tls, "X25519", 100);
    histogram_add(&tally->times[TALLY_HANDSHAKE], 1500000);
}

static void test_json(void **state)
{
    (void)state;
    const struct load_options options = {.loop = LOAD_LOOP_MESSAGES};
    static const struct {
        const char *path;
        double value;
    } numbers[] = {
        {"messages",            1200   },
        {"counted",             1000   },
        {"failed",              1      },
        {"lost",                2      },
        {"unfinished",          3      },
        {"unstarted",           4      },
        {"offered",             1010   },
        {"offered_per_second",  505    },
        {"opened",              20     },
        {"unopened",            5      },
        {"broken",              6      },
        {"lock_step",           7      },
        {"aborted",             17     },
        {"aborts/mail",         8      },
        {"aborts/dot",          9      },
        {"codes/000",           10     },
        {"codes/450",           11     },
        {"seconds",             2      },
        {"messages_per_second", 500    },
        {"bytes_per_second",    2048250},
        {"size",                4096.5 },
        {"left_out",            12     },
        {"threads",             2      },
        {"cpu_seconds",         1.25   },
        {"busiest",             0.5    },
        {"latency_us/count",    1000   },
        {"latency_us/p50",      500    },
        {"latency_us/max",      1000   },
        {"latency_us/mean",     500.5  },
        {"dot_latency_us/p99",  2500000},
        {"times/message/p50",   500    },
        {"times/dot/count",     1      },
    };
    fill();
    json_t *report = reported(&options);
    assert_string_equal(json_string_value(member(report, "loop")), "open, messages");
    assert_true(json_is_true(member(report, "valid")));
    assert_int_equal(json_array_size(member(report, "reasons")), 0);
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_number(report, numbers[i].path, numbers[i].value);
    assert_true(json_number_value(member(report, "times/message/p99.99")) >= 999.9);
    assert_int_equal(json_object_size(member(report, "codes")), 2);
    assert_int_equal(json_object_size(member(report, "aborts")), 2);
    assert_int_equal(json_object_size(member(report, "times")), 2);
    assert_null(json_object_get(report, "tls"));
    json_t *seconds = member(report, "series");
    assert_int_equal(json_array_size(seconds), 2);
    assert_number(json_array_get(seconds, 0), "p99", 2500000);
    assert_number(json_array_get(seconds, 1), "answered", 400);
    assert_number(json_array_get(seconds, 1), "failed", 3);
    assert_number(json_array_get(seconds, 1), "opened", 4);
    json_decref(report);
}

static void test_json_tls(void **state)
{
    (void)state;
    const struct load_options options = {.tls.mode = LOAD_TLS_STARTTLS};
    fill();
    fill_tls();
    json_t *report = reported(&options);
    assert_number(report, "tls/handshakes", 100);
    assert_number(report, "tls/counted", 90);
    assert_number(report, "tls/per_second", 45);
    assert_number(report, "tls/resumed", 80);
    assert_number(report, "tls/resumed_counted", 70);
    assert_number(report, "tls/failed", 6);
    assert_number(report, "tls/broken", 5);
    assert_number(report, "tls/versions/TLSv1.2", 40);
    assert_number(report, "tls/versions/TLSv1.3", 60);
    assert_int_equal(json_object_size(member(report, "tls/ciphers")), 1);
    assert_number(member(report, "tls/ciphers"), tls_cipher_names[1], 100);
    assert_number(report, "tls/groups/X25519", 100);
    assert_number(report, "tls/reasons/lost", 4);
    assert_number(report, "tls/reasons/alert", 2);
    assert_int_equal(json_object_size(member(report, "tls/reasons")), 2);
    assert_number(report, "tls/latency_us/p50", 1500);
    assert_number(report, "times/handshake/p50", 1500);
    assert_null(json_object_get(report, "offered")); /* it is a closed loop */
    json_decref(report);
}

static void test_json_invalid(void **state)
{
    (void)state;
    const struct load_options options = {.loop = LOAD_LOOP_CONNECTIONS};
    fill();
    tally->busiest = 0.9;
    histogram_add(&tally->times[TALLY_LATENESS], 5000000);
    json_t *report = reported(&options), *reasons = member(report, "reasons");
    assert_string_equal(json_string_value(member(report, "loop")), "open, connections");
    assert_true(json_is_false(member(report, "valid")));
    assert_int_equal(json_array_size(reasons), 2);
    assert_non_null(strstr(json_string_value(json_array_get(reasons, 0)), "5.000 ms late"));
    assert_non_null(strstr(json_string_value(json_array_get(reasons, 1)), "90%"));
    json_decref(report);
}

/* A run in which nothing came to be: no division by nothing. */
static void test_nothing(void **state)
{
    (void)state;
    const struct load_options options = {.tls.mode = LOAD_TLS_IMPLICIT};
    json_t *report = reported(&options);
    assert_number(report, "messages_per_second", 0);
    assert_number(report, "latency_us/p50", 0);
    assert_int_equal(json_object_size(member(report, "times")), 0);
    json_decref(report);
    printed(&options);
    assert_shown("loop: closed");
    assert_shown("0 acknowledged");
    assert_not_shown("milliseconds");
}

static void test_text(void **state)
{
    (void)state;
    struct load_options options = {.loop = LOAD_LOOP_MESSAGES};
    fill();
    printed(&options);
    assert_int_equal(strncmp(text, "loop: open, messages; 505.0 a second", 36), 0);
    assert_shown("offered, Poisson arrivals\n");
    assert_shown("\nvalid: yes\n");
    assert_shown("1200 acknowledged; 1000 in 2.000 s: 500 a second, 2.0 MB/s");
    assert_shown("1 failed, 2 lost, 3 unfinished, 4 unstarted; 4096 octets");
    assert_shown("20 opened, 5 not opened, 6 broken");
    assert_shown("7 in lock-step");
    assert_shown("aborted: mail 8, dot 9");
    assert_shown("no reply code: 10, 450: 11");
    assert_shown("400 to 600 messages in each; the worst p99 is 2500.000 ms, in second 1");
    assert_shown("1.25 s, 2 threads, the busiest 50%");
    assert_shown("12 of the corpus");
    assert_shown("message         0.500    0.9");
    assert_shown("dot          2500.000 2500.000 ");
    assert_not_shown("connect ");
    assert_not_shown("TLS");
    options.loop = LOAD_LOOP_CLOSED;
    tally->busiest = 0.99;
    printed(&options);
    assert_int_equal(strncmp(text, "loop: closed", 12), 0);
    assert_shown("note: a thread used 99%");
    assert_not_shown("valid");
    options.loop = LOAD_LOOP_MESSAGES;
    options.arrivals = LOAD_ARRIVALS_CONSTANT;
    printed(&options);
    assert_shown("valid: NO: a thread used 99%");
    assert_shown("offered, constant arrivals\n");
}

static void test_text_clean(void **state)
{
    (void)state;
    const struct load_options options = {.tls.mode = LOAD_TLS_NONE};
    tally->acked = tally->counted = tally->opened = 10;
    tally->threads = 1;
    tally->seconds = 1;
    printed(&options);
    assert_shown("1 thread,");
    static const char *const none[] = {"unfinished", "note",       "aborted",   "lock-step",
                                       "corpus",     "unexpected", "\nseconds", "TLS"};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_not_shown(none[i]);
}

/* A run that ended before its time, because there was nothing left to send on. */
static void test_text_gone(void **state)
{
    (void)state;
    struct load_options options = {.seconds = 5};
    static const char gone[] = "all connections were gone after 0.250 s\n";
    tally->seconds = 0.25;
    printed(&options);
    assert_shown(gone);
    interrupted = true;
    printed(&options);
    assert_not_shown("gone");
    interrupted = false;
    tally->seconds = 4.99;
    printed(&options);
    assert_not_shown("gone");
    options.seconds = 0;
    options.messages = 10;
    tally->seconds = 0.25;
    tally->acked = 4;
    tally->failed = 3;
    tally->aborted[LOAD_PHASE_BODY] = 2;
    printed(&options);
    assert_shown(gone);
    tally->lost = 1;
    printed(&options);
    assert_not_shown("gone");
    tally->lost = 0;
    options.seconds = 0.25; /* whatever comes first */
    printed(&options);
    assert_not_shown("gone");
}

/* A second in which nothing came is not a fast one. */
static void test_empty_second(void **state)
{
    (void)state;
    static struct histogram empty;
    const struct load_options options = {.seconds = 3};
    fill();
    tally->seconds = 3;
    series_hand_in(series, 2, 0, 0, 0, &empty);
    json_t *report = reported(&options), *seconds = member(report, "series");
    assert_true(json_is_null(member(json_array_get(seconds, 2), "p99")));
    assert_true(json_is_null(member(json_array_get(seconds, 2), "max")));
    assert_true(json_is_real(member(json_array_get(seconds, 0), "p50")));
    json_decref(report);
    printed(&options);
    assert_shown("0 to 600 messages in each");
    assert_shown("nothing was answered in 1 of them\n");
}

/* Lateness is worth a note where it is more than a tenth of the latency. */
static void test_text_late(void **state)
{
    (void)state;
    const struct load_options options = {.loop = LOAD_LOOP_MESSAGES};
    for (unsigned i = 0; i < 1000; i++) {
        histogram_add(&tally->times[TALLY_MESSAGE], 1000000);
        histogram_add(&tally->times[TALLY_LATENESS], i < 985 ? 95000 : 250000);
    }
    printed(&options);
    assert_shown("note: at p99, lateness is 25% of message");
    assert_shown("\nvalid: yes\n");
    memset(&tally->times[TALLY_LATENESS], 0, sizeof tally->times[0]);
    histogram_add(&tally->times[TALLY_LATENESS], 95000);
    printed(&options);
    assert_not_shown("note");
}

static void test_text_tls(void **state)
{
    (void)state;
    const struct load_options options = {.tls.mode = LOAD_TLS_STARTTLS};
    fill();
    fill_tls();
    printed(&options);
    assert_shown("100 handshakes, 80 resumed, 6 failed, 5 broken later");
    assert_shown("90 of them (70 resumed) in the measured time: 45 a second");
    assert_shown("agreed: TLSv1.2 40, TLSv1.3 60, ");
    assert_shown(", X25519 100\n");
    assert_shown("alert 2, lost 4");
    assert_shown("handshake       1.500");
    histogram_add(&tally->times[TALLY_CONNECT], UINT64_C(9999999499));
    histogram_add(&tally->times[TALLY_BANNER], UINT64_C(9999999500));
    printed(&options);
    assert_shown("connect      9999.999 9999.999 ");
    assert_shown("banner        10000.0  10000.0 ");
}

static void test_histograms(void **state)
{
    (void)state;
    char path[] = "/tmp/report-XXXXXX", name[32];
    int file = mkstemp(path);
    unsigned long long upper, count, messages = 0, lines = 0, last = 0;
    assert_true(file >= 0);
    close(file);
    fill();
    FILE *written = fopen(path, "w");
    assert_non_null(written);
    assert_true(report_histograms(tally, written, path));
    FILE *read = fopen(path, "r");
    assert_non_null(read);
    while (fscanf(read, "%31s %llu %llu\n", name, &upper, &count) == 3) {
        lines++;
        if (strcmp(name, "message") == 0) {
            messages += count;
            assert_true(upper > last);
            last = upper;
        } else {
            assert_string_equal(name, "dot");
            assert_in_range(upper, UINT64_C(2500000000), UINT64_C(2503000000));
            assert_int_equal(count, 1);
        }
    }
    assert_true(feof(read));
    fclose(read);
    assert_int_equal(messages, 1000);
    assert_in_range(lines, 2, 1001);
    unlink(path);
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_false(report_histograms(tally, full, "/dev/full"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_tls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_invalid, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_clean, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_second, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_tls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_histograms, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
