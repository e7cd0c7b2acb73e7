/* All areas, one behind the other, and what belongs to none: see metrics.h. */
#include "gateway/admin/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/admin/metrics_inside.h"

static void metrics_health(struct exposition *out, const struct metrics_sources *sources)
{
    enum health_trouble trouble = health_trouble(sources->health);
    exposition_single(out, "ringmx_ready", EXPOSITION_GAUGE,
                      "1: /readyz says ready; 0: mail should go elsewhere.",
                      trouble == HEALTH_READY);
    exposition_family(out, "ringmx_trouble", EXPOSITION_GAUGE,
                      "1 for the reason why it is not ready, 0 for all others.");
    for (int i = HEALTH_READY + 1; i < HEALTH_TROUBLES; i++)
        exposition_count(out, (int)trouble == i, "reason", health_word((enum health_trouble)i),
                         NULL);
}

/* same tells whether two certificates would be one sample. */
static bool same(const struct expiry *a, const struct expiry *b)
{
    return a->is_rsa == b->is_rsa && strcmp(a->label, b->label) == 0;
}

/* Of several with the same label, the one that expires first is the one to know of. */
static void metrics_certificates(struct exposition *out, const struct metrics_sources *sources)
{
    struct expiry *list =
        sources->expiries == NULL ? NULL : calloc(EXPIRIES_MAX, sizeof(struct expiry));
    if (list == NULL)
        return;
    uint32_t count = expiries_read(sources->expiries, list);
    if (count > 0)
        exposition_family(out, "ringmx_certificate_expiry_timestamp_seconds", EXPOSITION_GAUGE,
                          "Unix time until which a certificate in use is valid.");
    for (uint32_t i = 0; i < count; i++) {
        bool first = true;
        for (uint32_t n = 0; n < count; n++)
            first = first &&
                    (n == i || !same(&list[i], &list[n]) || list[i].expires_s < list[n].expires_s ||
                     (list[i].expires_s == list[n].expires_s && i < n));
        if (first)
            exposition_count(out, list[i].expires_s > 0 ? (uint64_t)list[i].expires_s : 0,
                             "certificate", list[i].label, "kind", list[i].is_rsa ? "rsa" : "ecdsa",
                             NULL);
    }
    free(list);
}

static void metrics_log(struct exposition *out, const struct metrics_sources *sources)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    struct log_snapshot log;
    log_snapshot(sources->log, &log);
    exposition_family(out, "ringmx_log_lines_total", EXPOSITION_COUNTER,
                      "Log lines handed over, by level.");
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        exposition_count(out, log.lines[i], "level", levels[i], NULL);
    exposition_single(out, "ringmx_log_dropped_lines_total", EXPOSITION_COUNTER,
                      "Log lines lost: nobody took them fast enough.", log.dropped);
    exposition_single(out, "ringmx_log_suppressed_lines_total", EXPOSITION_COUNTER,
                      "Log lines left out, since too many of the same event came (log.repeats).",
                      log.suppressed);
}

static void metrics_helpers(struct exposition *out, const struct metrics_sources *sources)
{
    if (sources->helpers == NULL)
        return;
    exposition_single(out, "ringmx_helper_waiting_jobs", EXPOSITION_GAUGE,
                      "Private-key operations that are queued or being done.",
                      helpers_waiting(sources->helpers));
    exposition_single(out, "ringmx_helper_jobs_total", EXPOSITION_COUNTER,
                      "Private-key operations that helper threads have begun.",
                      helpers_taken(sources->helpers));
}

char *metrics_text(const struct metrics_sources *sources, size_t *len)
{
    char *text = NULL;
    struct exposition out = {.out = open_memstream(&text, len)};
    if (out.out == NULL)
        return NULL;
    exposition_family(&out, "ringmx_build_info", EXPOSITION_GAUGE, "1, and which ringmx this is.");
    exposition_count(&out, 1, "version", sources->version, NULL);
    metrics_health(&out, sources);
    metrics_receive(&out, sources);
    metrics_tls(&out, sources);
    metrics_certificates(&out, sources);
    metrics_helpers(&out, sources);
    metrics_spool(&out, sources);
    metrics_deliver(&out, sources);
    metrics_queue(&out, sources);
    metrics_logins(&out, sources);
    metrics_redis(&out, sources);
    metrics_workers(&out, sources);
    metrics_log(&out, sources);
    metrics_process(&out, sources);
    bool whole = !ferror(out.out);
    if (fclose(out.out) == 0 && whole)
        return text;
    free(text);
    return NULL;
}
