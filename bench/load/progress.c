/* See progress.h. The line is written over the last one, and never longer than a narrow terminal is
 * wide, so that it needs no control sequences but the carriage return. */
#include "bench/load/progress.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 78 };

static atomic_int shown; /* columns of the line that stands there */

static void draw(const char *line)
{
    int len = (int)strlen(line);
    int before = atomic_exchange(&shown, len);
    fprintf(stderr, "\r%s%*s", line, len < before ? before - len : 0, "");
    fflush(stderr);
}

void progress_clear(void)
{
    int before = atomic_exchange(&shown, 0);
    if (before > 0)
        fprintf(stderr, "\r%*s\r", before, "");
    fflush(stderr);
}

/* Seconds that are left, or below 0: nobody knows. */
static double seconds_left(const struct load_options *options, uint64_t answered, double rate,
                           double seconds_gone)
{
    double by_time = options->warm_up_seconds + options->seconds - seconds_gone;
    if (options->messages == 0)
        return by_time > 0 ? by_time : 0;
    double more = answered < options->messages ? (double)(options->messages - answered) : 0;
    double by_count = rate > 0 ? more / rate : -1;
    if (options->seconds > 0 && (by_count < 0 || by_time < by_count))
        return by_time > 0 ? by_time : 0;
    return by_count;
}

static void compose(const struct load_options *options, struct series *series, double seconds_gone,
                    char line[LINE_MAX_LEN + 1])
{
    uint32_t complete = series_complete(series);
    if (seconds_gone < 0 || complete == 0) {
        snprintf(line, LINE_MAX_LEN + 1, "%s",
                 seconds_gone < 0                          ? "connecting"
                 : seconds_gone < options->warm_up_seconds ? "warming up"
                                                           : "measuring");
        return;
    }
    uint64_t answered = 0, failed = 0;
    for (uint32_t i = 0; i < complete; i++) {
        struct series_second second = series_second(series, i);
        answered += second.answered;
        failed += second.failed;
    }
    struct series_second newest = series_second(series, complete - 1);
    double left = seconds_left(options, answered, (double)newest.answered, seconds_gone);
    int len =
        snprintf(line, LINE_MAX_LEN + 1, "%llu messages/s, %llu failed, p50 %.3f ms, p99 %.3f ms",
                 (unsigned long long)newest.answered, (unsigned long long)failed,
                 (double)newest.p50_ns / 1e6, (double)newest.p99_ns / 1e6);
    if (left >= 0 && len > 0 && len < LINE_MAX_LEN)
        snprintf(line + len, LINE_MAX_LEN + 1 - (size_t)len, ", %.0f s left", left);
}

void progress_show(const struct load_options *options, struct series *series, double seconds_gone)
{
    if (options->quiet || !isatty(STDERR_FILENO))
        return;
    char line[LINE_MAX_LEN + 1];
    compose(options, series, seconds_gone, line);
    draw(line);
}
