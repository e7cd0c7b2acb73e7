/* See tally.h. */
#include "bench/load/tally.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const uint64_t lateness_ns_max = 1000000;
static const uint64_t limit_parts = 10;      /* of a sweep's limit, lateness may be one */
static const double busy_max = 0.7;          /* above it, waiting for the CPU is no longer rare */
static const double busy_seconds_min = 0.02; /* a shorter run says nothing about that */

const char *const tally_time_names[TALLY_TIME_COUNT] = {
    [TALLY_CONNECT] = "connect",
    [TALLY_BANNER] = "banner",
    [TALLY_EHLO] = "ehlo",
    [TALLY_STARTTLS] = "starttls",
    [TALLY_HANDSHAKE] = "handshake",
    [TALLY_AUTH] = "auth",
    [TALLY_MAIL] = "mail",
    [TALLY_RCPT] = "rcpt",
    [TALLY_DATA] = "data",
    [TALLY_DOT] = "dot",
    [TALLY_MESSAGE] = "message",
    [TALLY_SERVICE] = "service",
    [TALLY_CONNECTION] = "connection",
    [TALLY_LATENESS] = "lateness",
};

static void counts_add(uint64_t *counts, const uint64_t *others, size_t count)
{
    for (size_t i = 0; i < count; i++)
        counts[i] += others[i];
}

static double greater(double one, double other)
{
    return one > other ? one : other;
}

void tally_tls_group(struct tally_tls *tls, const char *name, uint64_t count)
{
    for (unsigned i = 0; i < TALLY_GROUPS_MAX; i++) {
        struct tally_group *group = &tls->groups[i];
        if (group->name == NULL)
            group->name = name;
        if (strcmp(group->name, name) == 0) {
            group->count += count;
            return;
        }
    }
}

static void tls_add(struct tally_tls *tls, const struct tally_tls *other)
{
    tls->handshakes += other->handshakes;
    tls->counted += other->counted;
    tls->resumed += other->resumed;
    tls->resumed_counted += other->resumed_counted;
    tls->failed += other->failed;
    tls->broken += other->broken;
    counts_add(tls->reasons, other->reasons, TALLY_TLS_REASON_COUNT);
    counts_add(tls->versions, other->versions, sizeof tls->versions / sizeof tls->versions[0]);
    counts_add(tls->ciphers, other->ciphers, TLS_CIPHER_COUNT);
    for (unsigned i = 0; i < TALLY_GROUPS_MAX && other->groups[i].name != NULL; i++)
        tally_tls_group(tls, other->groups[i].name, other->groups[i].count);
}

void tally_add(struct tally *tally, const struct tally *other)
{
    tally->acked += other->acked;
    tally->counted += other->counted;
    tally->octets += other->octets;
    tally->failed += other->failed;
    tally->lost += other->lost;
    tally->unfinished += other->unfinished;
    tally->unstarted += other->unstarted;
    tally->offered += other->offered;
    tally->opened += other->opened;
    tally->logins += other->logins;
    tally->unopened += other->unopened;
    tally->broken += other->broken;
    tally->lock_step += other->lock_step;
    counts_add(tally->aborted, other->aborted, LOAD_PHASE_COUNT);
    counts_add(tally->codes, other->codes, sizeof tally->codes / sizeof tally->codes[0]);
    tally->threads += other->threads;
    tally->seconds = greater(tally->seconds, other->seconds);
    tally->cpu_seconds += other->cpu_seconds;
    tally->busiest = greater(tally->busiest, other->busiest);
    tls_add(&tally->tls, &other->tls);
    for (unsigned i = 0; i < TALLY_TIME_COUNT; i++)
        histogram_merge(&tally->times[i], &other->times[i]);
}

bool tally_failed(const struct tally *tally, const struct load_options *options)
{
    const struct tally_tls *tls = &tally->tls;
    uint64_t handshakes_lost = tls->reasons[TALLY_TLS_LOST];
    uint64_t lost = tally->lost + tally->unopened + tally->broken + handshakes_lost, aborted = 0;
    for (unsigned i = 0; i < LOAD_PHASE_COUNT; i++)
        aborted += tally->aborted[i];
    bool asked = options->loop == LOAD_LOOP_CLOSED ? options->connections > 0 : tally->offered > 0;
    if (asked && tally->acked == 0 && aborted == 0)
        return true;
    if (tally->failed + tally->unfinished + tally->unstarted + tls->broken > 0)
        return true;
    return tls->failed > handshakes_lost || (!options->reconnect && lost > 0);
}

/* Appends a sentence to `reasons`. */
__attribute__((format(printf, 3, 4))) static void reason_add(char *reasons, size_t size,
                                                             const char *format, ...)
{
    size_t len = strlen(reasons);
    if (len > 0)
        len += (size_t)snprintf(reasons + len, size - len, "; ");
    if (len >= size)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reasons + len, size - len, format, arguments);
    va_end(arguments);
}

bool tally_invalid(const struct tally *tally, const struct load_options *options, char *reasons,
                   size_t size)
{
    reasons[0] = '\0';
    if (options->loop == LOAD_LOOP_CLOSED)
        return false;
    uint64_t late_ns = histogram_quantile_ns(&tally->times[TALLY_LATENESS], 0.99);
    uint64_t allowed_ns = lateness_ns_max, limit_ns = options->sweep_p99_us * 1000;
    if (limit_ns > 0 && limit_ns / limit_parts < allowed_ns)
        allowed_ns = limit_ns / limit_parts;
    if (late_ns > allowed_ns)
        reason_add(reasons, size, "1%% of the starts were %.3f ms late or more (%g ms is allowed)",
                   (double)late_ns / 1e6, (double)allowed_ns / 1e6);
    if (tally->busiest > busy_max && tally->seconds >= busy_seconds_min)
        reason_add(reasons, size, "a thread used %.0f%% of its CPU (70%% is allowed)",
                   tally->busiest * 100);
    return reasons[0] != '\0';
}
