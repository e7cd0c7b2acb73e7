/* See report.h. Durations are those of the measured time; what is counted is of the whole run
 * unless it says otherwise. */
#include "bench/load/report.h"

#include "bench/load/crew.h"

#include <math.h>
#include <string.h>

enum { REASONS_MAX = 512 };

static const double late_share_max = 0.1;   /* of a latency, before it is worth a note */
static const double end_seconds_off = 0.05; /* a thread may notice the end a little before it */

static const struct {
    const char *name;
    double quantile;
} quantiles[] = {
    {"p50",    0.5   },
    {"p90",    0.9   },
    {"p99",    0.99  },
    {"p99.9",  0.999 },
    {"p99.99", 0.9999},
};
enum { QUANTILE_COUNT = sizeof quantiles / sizeof quantiles[0] };

static const char *const loops[] = {
    [LOAD_LOOP_CLOSED] = "closed",
    [LOAD_LOOP_MESSAGES] = "open, messages",
    [LOAD_LOOP_CONNECTIONS] = "open, connections",
};
static const char *const versions[] = {
    [TLS_1_2] = "TLSv1.2",
    [TLS_1_3] = "TLSv1.3",
};

static const char *reason_name(unsigned reason)
{
    switch (reason) {
    case TALLY_TLS_REFUSED: return "refused";
    case TALLY_TLS_INJECTED: return "injected";
    case TALLY_TLS_LOST: return "lost";
    default: return tls_failure_name((enum tls_failure)reason);
    }
}

static double per_second(double count, const struct tally *tally)
{
    return tally->seconds > 0 ? count / tally->seconds : 0;
}

static uint64_t sum(const uint64_t *counts, size_t count)
{
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++)
        all += counts[i];
    return all;
}

/* ---- JSON ---- */

void report_put(json_t *object, const char *name, json_t *value)
{
    if (object == NULL || json_object_set_new(object, name, value) != 0)
        words_die("no memory");
}

static void put_count(json_t *object, const char *name, uint64_t count)
{
    report_put(object, name, json_integer((json_int_t)count));
}

/* Only what was counted at all. */
static void put_some(json_t *object, const char *name, uint64_t count)
{
    if (count > 0)
        put_count(object, name, count);
}

static json_t *us_of(double ns)
{
    return json_real(round(ns) / 1e3);
}

static json_t *json_times(const struct histogram *histogram)
{
    json_t *object = json_object();
    put_count(object, "count", histogram->count);
    for (unsigned i = 0; i < QUANTILE_COUNT; i++)
        report_put(object, quantiles[i].name,
                   us_of((double)histogram_quantile_ns(histogram, quantiles[i].quantile)));
    report_put(object, "max", us_of((double)histogram->max_ns));
    report_put(object, "mean", us_of(histogram_mean_ns(histogram)));
    return object;
}

static json_t *json_all_times(const struct tally *tally)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++)
        if (tally->times[i].count > 0)
            report_put(object, tally_time_names[i], json_times(&tally->times[i]));
    return object;
}

static json_t *json_series(struct series *series)
{
    json_t *array = json_array();
    uint32_t complete = series_complete(series);
    for (uint32_t i = 0; i < complete; i++) {
        struct series_second second = series_second(series, i);
        json_t *object = json_object();
        put_count(object, "second", i);
        put_count(object, "answered", second.answered);
        put_count(object, "failed", second.failed);
        put_count(object, "opened", second.opened);
        bool any = second.answered > 0; /* a second in which nothing came is not a fast one */
        report_put(object, "p50", any ? us_of((double)second.p50_ns) : json_null());
        report_put(object, "p99", any ? us_of((double)second.p99_ns) : json_null());
        report_put(object, "max", any ? us_of((double)second.max_ns) : json_null());
        if (json_array_append_new(array, object) != 0)
            words_die("no memory");
    }
    return array;
}

static json_t *json_tls(const struct tally *tally)
{
    const struct tally_tls *tls = &tally->tls;
    json_t *object = json_object(), *agreed[3], *reasons = json_object();
    for (unsigned i = 0; i < 3; i++)
        agreed[i] = json_object();
    for (unsigned i = 0; i <= TLS_1_3; i++)
        put_some(agreed[0], versions[i], tls->versions[i]);
    for (unsigned i = 0; i < TLS_CIPHER_COUNT; i++)
        put_some(agreed[1], tls_cipher_names[i], tls->ciphers[i]);
    for (unsigned i = 0; i < TALLY_GROUPS_MAX && tls->groups[i].name != NULL; i++)
        put_some(agreed[2], tls->groups[i].name, tls->groups[i].count);
    for (unsigned i = 0; i < TALLY_TLS_REASON_COUNT; i++)
        put_some(reasons, reason_name(i), tls->reasons[i]);
    put_count(object, "handshakes", tls->handshakes);
    put_count(object, "counted", tls->counted);
    report_put(object, "per_second", json_real(per_second((double)tls->counted, tally)));
    put_count(object, "resumed", tls->resumed);
    put_count(object, "resumed_counted", tls->resumed_counted);
    put_count(object, "failed", tls->failed);
    put_count(object, "broken", tls->broken);
    report_put(object, "versions", agreed[0]);
    report_put(object, "ciphers", agreed[1]);
    report_put(object, "groups", agreed[2]);
    report_put(object, "reasons", reasons);
    report_put(object, "latency_us", json_times(&tally->times[TALLY_HANDSHAKE]));
    report_put(object, "counted_latency_us", json_times(&tally->times[TALLY_HANDSHAKE]));
    return object;
}

/* One string for each sentence of tally_invalid. */
static json_t *json_reasons(char *reasons)
{
    json_t *array = json_array();
    for (char *sentence = reasons; sentence != NULL && *sentence != '\0';) {
        char *end = strstr(sentence, "; ");
        if (end != NULL)
            *end = '\0';
        if (json_array_append_new(array, json_string(sentence)) != 0)
            words_die("no memory");
        sentence = end != NULL ? end + 2 : NULL;
    }
    return array;
}

static void put_counts(json_t *object, const struct tally *tally)
{
    json_t *phases = json_object();
    put_count(object, "messages", tally->acked);
    put_count(object, "counted", tally->counted);
    put_count(object, "failed", tally->failed);
    put_count(object, "lost", tally->lost);
    put_count(object, "unfinished", tally->unfinished);
    put_count(object, "unstarted", tally->unstarted);
    put_count(object, "aborted", sum(tally->aborted, LOAD_PHASE_COUNT));
    put_count(object, "opened", tally->opened);
    put_some(object, "logins", tally->logins);
    put_count(object, "unopened", tally->unopened);
    put_count(object, "broken", tally->broken);
    for (unsigned i = 0; i < LOAD_PHASE_COUNT; i++)
        put_some(phases, load_phase_names[i], tally->aborted[i]);
    report_put(object, "aborts", phases);
    put_count(object, "lock_step", tally->lock_step);
}

static json_t *json_codes(const struct tally *tally)
{
    json_t *object = json_object();
    for (unsigned code = 0; code < 1000; code++) {
        char name[16];
        snprintf(name, sizeof name, "%03u", code);
        put_some(object, name, tally->codes[code]);
    }
    return object;
}

json_t *report_json(const struct tally *tally, struct series *series,
                    const struct load_options *options, const struct mail *mail)
{
    char reasons[REASONS_MAX];
    json_t *object = json_object();
    report_put(object, "loop", json_string(loops[options->loop]));
    report_put(object, "valid",
               json_boolean(!tally_invalid(tally, options, reasons, sizeof reasons)));
    report_put(object, "reasons", json_reasons(reasons));
    put_counts(object, tally);
    report_put(object, "seconds", json_real(tally->seconds));
    if (options->loop != LOAD_LOOP_CLOSED) {
        put_count(object, "offered", tally->offered);
        report_put(object, "offered_per_second",
                   json_real(per_second((double)tally->offered, tally)));
    }
    report_put(object, "messages_per_second", json_real(per_second((double)tally->counted, tally)));
    report_put(object, "bytes_per_second", json_real(per_second((double)tally->octets, tally)));
    report_put(object, "size", json_real(mail_size_mean(mail)));
    put_some(object, "left_out", mail_left_out(mail));
    put_count(object, "threads", tally->threads);
    report_put(object, "cpu_seconds", json_real(tally->cpu_seconds));
    report_put(object, "busiest", json_real(tally->busiest));
    report_put(object, "latency_us", json_times(&tally->times[TALLY_MESSAGE]));
    report_put(object, "dot_latency_us", json_times(&tally->times[TALLY_DOT]));
    report_put(object, "times", json_all_times(tally));
    if (options->tls.mode != LOAD_TLS_NONE)
        report_put(object, "tls", json_tls(tally));
    report_put(object, "codes", json_codes(tally));
    report_put(object, "series", json_series(series));
    return object;
}

/* ---- for people ---- */

/* Prints one entry of a list unless its count is 0. The first needs no comma. */
static void print_entry(bool *first, const char *name, uint64_t count)
{
    if (count == 0)
        return;
    printf("%s%s %llu", *first ? "" : ", ", name, (unsigned long long)count);
    *first = false;
}

/* Where a considerable part of a latency is this program's own. */
static void print_lateness(const struct tally *tally)
{
    const struct histogram *late = &tally->times[TALLY_LATENESS];
    const struct histogram *message = &tally->times[TALLY_MESSAGE];
    for (unsigned i = 0; i < QUANTILE_COUNT && message->count > 0; i++) {
        double late_ns = (double)histogram_quantile_ns(late, quantiles[i].quantile);
        double message_ns = (double)histogram_quantile_ns(message, quantiles[i].quantile);
        if (late_ns <= late_share_max * message_ns)
            continue;
        printf("note: at %s, lateness is %.0f%% of message: that part is this program's own\n",
               quantiles[i].name, late_ns / message_ns * 100);
        return;
    }
}

static void print_loop(const struct tally *tally, const struct load_options *options)
{
    char reasons[REASONS_MAX];
    printf("loop: %s", loops[options->loop]);
    if (options->loop == LOAD_LOOP_CLOSED) {
        printf(" (asks no faster than it is answered; --rate makes an open one)\n");
        struct load_options open = *options;
        open.loop = LOAD_LOOP_MESSAGES;
        if (tally_invalid(tally, &open, reasons, sizeof reasons))
            printf("note: %s: the figures are this program's, too\n", reasons);
        return;
    }
    printf("; %.1f a second offered, %s arrivals\n", per_second((double)tally->offered, tally),
           options->arrivals == LOAD_ARRIVALS_CONSTANT ? "constant" : "Poisson");
    bool invalid = tally_invalid(tally, options, reasons, sizeof reasons);
    printf("valid: %s%s\n", invalid ? "NO: " : "yes", reasons);
    print_lateness(tally);
}

/* Nothing was left to send on, and there is no other reason for an end before the time. */
static void print_end(const struct tally *tally, const struct load_options *options)
{
    uint64_t done = tally->acked + tally->failed + tally->lost + tally->unfinished +
                    tally->unstarted + sum(tally->aborted, LOAD_PHASE_COUNT);
    bool planned = options->messages > 0 || options->seconds > 0;
    bool all = options->messages > 0 && done >= options->messages;
    bool in_time = options->seconds > 0 && tally->seconds >= options->seconds - end_seconds_off;
    if (planned && !all && !in_time && !crew_interrupted())
        printf("             all connections were gone after %.3f s\n", tally->seconds);
}

static void print_messages(const struct tally *tally, const struct load_options *options,
                           const struct mail *mail)
{
    printf("messages     %llu acknowledged; %llu in %.3f s: %.0f a second, %.1f MB/s\n",
           (unsigned long long)tally->acked, (unsigned long long)tally->counted, tally->seconds,
           per_second((double)tally->counted, tally),
           per_second((double)tally->octets, tally) / 1e6);
    printf("             %llu failed, %llu lost", (unsigned long long)tally->failed,
           (unsigned long long)tally->lost);
    if (options->loop != LOAD_LOOP_CLOSED || tally->unfinished + tally->unstarted > 0)
        printf(", %llu unfinished, %llu unstarted", (unsigned long long)tally->unfinished,
               (unsigned long long)tally->unstarted);
    printf("; %.0f octets on average\n", mail_size_mean(mail));
    if (mail_left_out(mail) > 0)
        printf("             %llu of the corpus cannot be sent as they are, and are left out\n",
               (unsigned long long)mail_left_out(mail));
}

static void print_connections(const struct tally *tally)
{
    printf("connections  %llu opened, %llu not opened, %llu broken\n",
           (unsigned long long)tally->opened, (unsigned long long)tally->unopened,
           (unsigned long long)tally->broken);
    if (tally->logins > 0)
        printf("             %llu logged in\n", (unsigned long long)tally->logins);
    if (tally->lock_step > 0)
        printf("             %llu in lock-step: the server does not offer them PIPELINING\n",
               (unsigned long long)tally->lock_step);
    if (sum(tally->aborted, LOAD_PHASE_COUNT) == 0)
        return;
    bool first = true;
    fputs("             aborted: ", stdout);
    for (unsigned i = 0; i < LOAD_PHASE_COUNT; i++)
        print_entry(&first, load_phase_names[i], tally->aborted[i]);
    putchar('\n');
}

static void print_codes(const struct tally *tally)
{
    if (sum(tally->codes, sizeof tally->codes / sizeof tally->codes[0]) == 0)
        return;
    bool first = true;
    fputs("unexpected   ", stdout);
    for (unsigned code = 0; code < 1000; code++) {
        char name[16];
        snprintf(name, sizeof name, "%03u:", code);
        print_entry(&first, code == 0 ? "no reply code:" : name, tally->codes[code]);
    }
    putchar('\n');
}

/* In eight columns, to the microsecond if it is below ten seconds. */
static void print_ms(double ns)
{
    double ms = ns / 1e6;
    printf(" %8.*f", ms < 9999.9995 ? 3 : 1, ms);
}

static void print_times(const struct tally *tally, const struct load_options *options)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++)
        all += tally->times[i].count;
    if (all == 0)
        return;
    fputs("\nmilliseconds", stdout);
    for (unsigned i = 0; i < QUANTILE_COUNT; i++)
        printf(" %8s", quantiles[i].name);
    printf(" %8s %8s %10s\n", "max", "mean", "count");
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++) {
        const struct histogram *histogram = &tally->times[i];
        /* In a closed loop a message starts when it is meant to. */
        if (histogram->count == 0 || (i == TALLY_SERVICE && options->loop == LOAD_LOOP_CLOSED))
            continue;
        printf("%-12s", tally_time_names[i]);
        for (unsigned k = 0; k < QUANTILE_COUNT; k++)
            print_ms((double)histogram_quantile_ns(histogram, quantiles[k].quantile));
        print_ms((double)histogram->max_ns);
        print_ms(histogram_mean_ns(histogram));
        printf(" %10llu\n", (unsigned long long)histogram->count);
    }
}

static void print_tls(const struct tally *tally)
{
    const struct tally_tls *tls = &tally->tls;
    bool first = true;
    printf("\nTLS          %llu handshakes, %llu resumed, %llu failed, %llu broken later\n",
           (unsigned long long)tls->handshakes, (unsigned long long)tls->resumed,
           (unsigned long long)tls->failed, (unsigned long long)tls->broken);
    printf("             %llu of them (%llu resumed) in the measured time: %.0f a second\n",
           (unsigned long long)tls->counted, (unsigned long long)tls->resumed_counted,
           per_second((double)tls->counted, tally));
    if (tls->handshakes > 0) {
        fputs("             agreed: ", stdout);
        for (unsigned i = 0; i <= TLS_1_3; i++)
            print_entry(&first, versions[i], tls->versions[i]);
        for (unsigned i = 0; i < TLS_CIPHER_COUNT; i++)
            print_entry(&first, tls_cipher_names[i], tls->ciphers[i]);
        for (unsigned i = 0; i < TALLY_GROUPS_MAX && tls->groups[i].name != NULL; i++)
            print_entry(&first, tls->groups[i].name, tls->groups[i].count);
        putchar('\n');
    }
    if (tls->failed + tls->broken > 0) {
        first = true;
        fputs("             failures: ", stdout);
        for (unsigned i = 0; i < TALLY_TLS_REASON_COUNT; i++)
            print_entry(&first, reason_name(i), tls->reasons[i]);
        putchar('\n');
    }
}

/* How even the run was, by its whole seconds. */
static void print_series(struct series *series, double seconds)
{
    uint32_t complete = series_complete(series), worst = 0, empty = 0;
    if (complete > (uint32_t)seconds)
        complete = (uint32_t)seconds;
    struct series_second most = {0}, least = {.answered = UINT64_MAX}, slowest = {0};
    for (uint32_t i = 0; i < complete; i++) {
        struct series_second second = series_second(series, i);
        empty += second.answered == 0;
        least = second.answered < least.answered ? second : least;
        most = second.answered >= most.answered ? second : most;
        if (second.p99_ns > slowest.p99_ns) {
            slowest = second;
            worst = i;
        }
    }
    if (complete > 1)
        printf(
            "seconds      %llu to %llu messages in each; the worst p99 is %.3f ms, in second %u\n",
            (unsigned long long)least.answered, (unsigned long long)most.answered,
            (double)slowest.p99_ns / 1e6, worst + 1);
    if (complete > 1 && empty > 0)
        printf("             nothing was answered in %u of them\n", empty);
}

void report_print(const struct tally *tally, struct series *series,
                  const struct load_options *options, const struct mail *mail)
{
    print_loop(tally, options);
    print_messages(tally, options, mail);
    print_connections(tally);
    print_end(tally, options);
    print_codes(tally);
    print_series(series, tally->seconds);
    printf("own CPU      %.2f s, %llu thread%s, the busiest %.0f%%\n", tally->cpu_seconds,
           (unsigned long long)tally->threads, tally->threads == 1 ? "" : "s",
           tally->busiest * 100);
    if (options->tls.mode != LOAD_TLS_NONE)
        print_tls(tally);
    print_times(tally, options);
}

bool report_histograms(const struct tally *tally, FILE *file, const char *path)
{
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++) {
        uint64_t upper_ns, count;
        for (uint32_t cursor = 0; histogram_next(&tally->times[i], &cursor, &upper_ns, &count);)
            fprintf(file, "%s %llu %llu\n", tally_time_names[i], (unsigned long long)upper_ns,
                    (unsigned long long)count);
    }
    bool written = !ferror(file);
    if (fclose(file) != 0 || !written) {
        fprintf(stderr, "ringmx-load: %s: cannot be written\n", path);
        return false;
    }
    return true;
}
