/* load/progress: what the line on a terminal says of the newest complete second, and that it stays
 * within its width. That it leaves nothing behind is load_crew_test's. */
#include "bench/load/progress.h"

#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char line[1024];

/* In a child whose standard error is a terminal; what it shows is in `line`. */
static void shown(const struct load_options *options, struct series *series, double gone)
{
    int ours, theirs;
    assert_int_equal(openpty(&ours, &theirs, NULL, NULL, NULL), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(theirs, STDERR_FILENO);
        progress_show(options, series, gone);
        _exit(0);
    }
    close(theirs);
    ssize_t got;
    size_t len = 0;
    while ((got = read(ours, line + len, sizeof line - 1 - len)) > 0)
        len += (size_t)got;
    line[len] = '\0';
    close(ours);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(len == 0 || line[0] == '\r');
    assert_in_range(len, 0, 79);
}

static struct histogram *histogram_to(uint64_t count, uint64_t step_ns)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    assert_non_null(histogram);
    for (uint64_t i = 1; i <= count; i++)
        histogram_add(histogram, i * step_ns);
    return histogram;
}

static void test_second(void **state)
{
    (void)state;
    struct load_options options = {.warm_up_seconds = 2, .seconds = 10};
    struct series *series = series_new(1);
    struct histogram *message = histogram_to(100, 1000000), *empty = histogram_to(0, 0);
    series_hand_in(series, 0, 70, 3, 0, message);
    series_hand_in(series, 1, 100, 2, 0, message);
    shown(&options, series, 4.5);
    assert_non_null(strstr(line, "100 messages/s, 5 failed, p50 50.0"));
    assert_non_null(strstr(line, "p99 99.0"));
    assert_non_null(strstr(line, ", 8 s left"));
    shown(&options, series, 14); /* the drain */
    assert_non_null(strstr(line, ", 0 s left"));
    options.messages = 570; /* 400 more, at 100 a second */
    shown(&options, series, 4.5);
    assert_non_null(strstr(line, ", 4 s left"));
    shown(&options, series, 10); /* but the time ends before */
    assert_non_null(strstr(line, ", 2 s left"));
    options.seconds = 0;
    shown(&options, series, 10);
    assert_non_null(strstr(line, ", 4 s left"));
    series_hand_in(series, 2, 0, 0, 0, empty); /* nobody knows */
    shown(&options, series, 4.5);
    assert_non_null(strstr(line, "0 messages/s, 5 failed"));
    assert_null(strstr(line, "left"));
    free(message);
    free(empty);
    series_free(series);
}

static void test_before(void **state)
{
    (void)state;
    struct load_options options = {.warm_up_seconds = 2, .seconds = 10};
    struct series *series = series_new(1);
    shown(&options, series, -1);
    assert_non_null(strstr(line, "connecting"));
    shown(&options, series, 1.9);
    assert_non_null(strstr(line, "warming up"));
    shown(&options, series, 2.1);
    assert_non_null(strstr(line, "measuring"));
    options.quiet = true;
    shown(&options, series, 2.1);
    assert_string_equal(line, "");
    series_free(series);
}

/* However long the numbers are, the line does not wrap. */
static void test_long(void **state)
{
    (void)state;
    struct load_options options = {.seconds = 1e6};
    struct series *series = series_new(1);
    struct histogram *message = histogram_to(2, UINT64_C(60000000000));
    series_hand_in(series, 0, UINT64_C(9999999999), UINT64_C(9999999999999999), 0, message);
    shown(&options, series, 1);
    assert_int_equal(strlen(line), 79);
    free(message);
    series_free(series);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second),
        cmocka_unit_test(test_before),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
