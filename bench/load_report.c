/* See load_report.h. Durations are those of the measured time; what is counted beside the messages
 * (connections, handshakes) is of the whole run unless it says otherwise. */
#include "bench/load_report.h"

#include <stdio.h>

static const struct {
    const char *name;
    double quantile;
} quantiles[] = {
    {"p50",   0.5  },
    {"p90",   0.9  },
    {"p99",   0.99 },
    {"p99.9", 0.999}
};

static void print_histogram(const char *name, const struct histogram *histogram, bool json)
{
    printf(json ? ",\n \"%s\": {" : "%s ", name);
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        printf(json ? "\"%s\": %.1f, " : " %s %.1f us ", quantiles[i].name,
               (double)histogram_quantile_ns(histogram, quantiles[i].quantile) / 1e3);
    printf(json ? "\"max\": %.1f}" : " max %.1f us\n", (double)histogram->max_ns / 1e3);
}

/* Prints one entry of a list unless its count is 0. The first needs no comma. */
static void print_entry(bool *first, const char *name, uint64_t count, bool json)
{
    if (count == 0)
        return;
    const char *comma = *first ? "" : ", ";
    printf(json ? "%s\"%s\": %llu" : "%s%s %llu", comma, name, (unsigned long long)count);
    *first = false;
}

/* ---- TLS ---- */

static const char *reason_name(unsigned reason)
{
    switch (reason) {
    case LOAD_TLS_REFUSED: return "refused";
    case LOAD_TLS_INJECTED: return "injected";
    case LOAD_TLS_LOST: return "lost";
    default: return tls_failure_name((enum tls_failure)reason);
    }
}

static void print_agreed(const struct load_tls_report *tls, bool json)
{
    static const char *const versions[] = {[TLS_1_2] = "TLSv1.2", [TLS_1_3] = "TLSv1.3"};
    bool first = true;
    fputs(json ? ",\n  \"versions\": {" : "agreed: ", stdout);
    for (unsigned i = 0; i <= TLS_1_3; i++)
        print_entry(&first, versions[i], tls->versions[i], json);
    first = json || first;
    fputs(json ? "}, \"ciphers\": {" : "", stdout);
    for (unsigned i = 0; i < TLS_CIPHER_COUNT; i++)
        print_entry(&first, tls_cipher_names[i], tls->ciphers[i], json);
    first = json || first;
    fputs(json ? "}, \"groups\": {" : "", stdout);
    for (unsigned i = 0; i < LOAD_TLS_GROUPS_MAX && tls->groups[i].name != NULL; i++)
        print_entry(&first, tls->groups[i].name, tls->groups[i].count, json);
    fputs(json ? "}" : "\n", stdout);
}

static void print_reasons(const struct load_tls_report *tls, bool json)
{
    bool first = true;
    fputs(json ? ",\n  \"reasons\": {" : "TLS failures: ", stdout);
    for (unsigned i = 0; i < LOAD_TLS_REASON_COUNT; i++)
        print_entry(&first, reason_name(i), tls->reasons[i], json);
    fputs(json ? "}" : "\n", stdout);
}

static void print_tls_json(const struct load_tls_report *tls, double seconds)
{
    printf(",\n \"tls\": {\"handshakes\": %llu, \"counted\": %llu, \"per_second\": %.1f,\n",
           (unsigned long long)tls->handshakes, (unsigned long long)tls->counted,
           (double)tls->counted / seconds);
    printf("  \"resumed\": %llu, \"resumed_counted\": %llu, \"failed\": %llu, \"broken\": %llu",
           (unsigned long long)tls->resumed, (unsigned long long)tls->resumed_counted,
           (unsigned long long)tls->failed, (unsigned long long)tls->broken);
    print_agreed(tls, true);
    print_reasons(tls, true);
    print_histogram("latency_us", &tls->latency, true);
    print_histogram("counted_latency_us", &tls->latency_counted, true);
    fputs("}", stdout);
}

static void print_tls_text(const struct load_tls_report *tls, double seconds)
{
    printf("%llu handshakes, %llu resumed, %llu failed, %llu broken later; "
           "%llu of them (%llu resumed) in the measured time: %.0f a second\n",
           (unsigned long long)tls->handshakes, (unsigned long long)tls->resumed,
           (unsigned long long)tls->failed, (unsigned long long)tls->broken,
           (unsigned long long)tls->counted, (unsigned long long)tls->resumed_counted,
           (double)tls->counted / seconds);
    if (tls->handshakes > 0)
        print_agreed(tls, false);
    if (tls->failed + tls->broken > 0)
        print_reasons(tls, false);
    print_histogram("handshake:  ", &tls->latency, false);
    if (tls->counted > 0)
        print_histogram("  measured: ", &tls->latency_counted, false);
}

/* ---- everything ---- */

static void print_json(const struct client_report *report, const struct client_options *options,
                       size_t size)
{
    double seconds = report->seconds > 0 ? report->seconds : 1;
    bool first = true;
    char name[16];
    printf("{\"messages\": %llu, \"counted\": %llu, \"failed\": %llu, \"lost\": %llu,\n",
           (unsigned long long)report->acked, (unsigned long long)report->counted,
           (unsigned long long)report->failed, (unsigned long long)report->lost);
    printf(" \"opened\": %llu, \"unopened\": %llu, \"broken\": %llu,\n",
           (unsigned long long)report->opened, (unsigned long long)report->unopened,
           (unsigned long long)report->broken);
    printf(" \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"size\": %zu,\n", report->seconds,
           report->cpu_seconds, size);
    printf(" \"messages_per_second\": %.1f, \"bytes_per_second\": %.0f",
           (double)report->counted / seconds, (double)report->counted * (double)size / seconds);
    print_histogram("latency_us", &report->whole, true);
    print_histogram("dot_latency_us", &report->dot, true);
    if (options->tls.mode != LOAD_TLS_NONE)
        print_tls_json(&report->tls, seconds);
    fputs(",\n \"codes\": {", stdout);
    for (int code = 0; code < 1000; code++) {
        snprintf(name, sizeof name, "%03d", code);
        print_entry(&first, name, report->codes[code], true);
    }
    puts("}}");
}

static void print_text(const struct client_report *report, const struct client_options *options,
                       size_t size)
{
    double seconds = report->seconds > 0 ? report->seconds : 1;
    printf("%llu messages acknowledged, %llu of them in %.3f s: %.0f a second, %.1f MB/s\n",
           (unsigned long long)report->acked, (unsigned long long)report->counted, report->seconds,
           (double)report->counted / seconds,
           (double)report->counted * (double)size / seconds / 1e6);
    printf("%llu failed, %llu lost; connections: %llu opened, %llu not opened, %llu broken; "
           "own CPU %.2f s\n",
           (unsigned long long)report->failed, (unsigned long long)report->lost,
           (unsigned long long)report->opened, (unsigned long long)report->unopened,
           (unsigned long long)report->broken, report->cpu_seconds);
    print_histogram("MAIL to 250:", &report->whole, false);
    print_histogram("dot to 250: ", &report->dot, false);
    if (options->tls.mode != LOAD_TLS_NONE)
        print_tls_text(&report->tls, seconds);
    for (int code = 0; code < 1000; code++)
        if (report->codes[code] > 0)
            printf("reply %03d: %llu\n", code, (unsigned long long)report->codes[code]);
}

void report_print(const struct client_report *report, const struct client_options *options,
                  size_t size, bool json)
{
    (json ? print_json : print_text)(report, options, size);
}

bool report_failed(const struct client_report *report, const struct client_options *options)
{
    const struct load_tls_report *tls = &report->tls;
    uint64_t lost = report->lost + report->unopened + report->broken;
    uint64_t handshakes_lost = tls->reasons[LOAD_TLS_LOST];
    if (report->failed > 0 || tls->broken > 0 || tls->failed > handshakes_lost)
        return true;
    return !options->reconnect && lost + handshakes_lost > 0;
}
