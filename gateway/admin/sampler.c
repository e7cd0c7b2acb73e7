/* Rows and marks: see sampler.h. Percentiles of a second come from the difference of two snapshots
 * of the same histogram. */
#include "gateway/admin/sampler.h"

#include <stdlib.h>
#include <string.h>

enum { SEARCH_US = 30 * 1000 * 1000 };

/* From MAIL to the reply. */
enum { PHASE_WHOLE = SERVER_PHASE_MESSAGE };

const char *const sampler_column_names[SAMPLER_COLUMNS] = {
    [SAMPLER_MESSAGES] = "messages",
    [SAMPLER_OCTETS] = "octets",
    [SAMPLER_CONNECTIONS] = "connections",
    [SAMPLER_ACCEPTED] = "accepted",
    [SAMPLER_COMMIT_P50] = "commit_p50",
    [SAMPLER_COMMIT_P99] = "commit_p99",
    [SAMPLER_WHOLE_P50] = "whole_p50",
    [SAMPLER_WHOLE_P99] = "whole_p99",
    [SAMPLER_QUEUED] = "queued",
    [SAMPLER_DELIVERED] = "delivered",
    [SAMPLER_DEFERRED] = "deferred",
    [SAMPLER_FAILED] = "failed",
    [SAMPLER_REFUSALS] = "refusals",
    [SAMPLER_HANDSHAKES] = "handshakes",
    [SAMPLER_CPU] = "cpu",
};

struct sampler *sampler_new(void)
{
    return calloc(1, sizeof(struct sampler));
}

void sampler_free(struct sampler *sampler)
{
    free(sampler);
}

/* --- sums --- */

static void add_worker(const struct server_counters *counters, struct sampler_totals *sum)
{
    sum->connections += counter_read(&counters->connections);
    sum->messages += counter_read(&counters->messages);
    sum->octets += counter_read(&counters->octets);
    sum->recipients += counter_read(&counters->recipients);
    sum->early_talkers += counter_read(&counters->early_talkers);
    sum->tarpitted += counter_read(&counters->tarpitted);
    sum->proxied += counter_read(&counters->proxied);
    sum->resets += counter_read(&counters->resets);
    sum->handshakes +=
        counter_read(&counters->tls.versions[0]) + counter_read(&counters->tls.versions[1]);
    sum->resumed += counter_read(&counters->tls.resumed);
    for (size_t i = 0; i < TLS_FAILURE_COUNT; i++)
        sum->handshakes_failed += counter_read(&counters->tls.failures[i]);
    for (size_t i = 0; i < REPLY_COUNT; i++) {
        uint64_t count = counter_read(&counters->replies[i]);
        sum->replies[i] += count;
        if (reply_code((enum reply)i) >= 400)
            sum->refusals += count;
    }
    for (size_t i = 4; i <= 5; i++)
        sum->refusals += counter_read(&counters->passed[i]);
    for (size_t i = 0; i < SERVER_PHASE_COUNT; i++)
        histogram_collect(&counters->phases[i], &sum->phases[i]);
}

static void add_up(const struct metrics_sources *sources, struct sampler_totals *sum)
{
    *sum = (struct sampler_totals){0};
    for (uint32_t i = 0; i < sources->worker_count; i++)
        add_worker(sources->workers[i].counters, sum);
    if (sources->courier != NULL)
        courier_snapshot(sources->courier, &sum->courier);
}

static void subtract(const struct histogram_snapshot *now, const struct histogram_snapshot *before,
                     struct histogram_snapshot *out)
{
    *out = *now;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        out->counts[i] -= before->counts[i];
    out->count -= before->count;
    out->sum_us -= before->sum_us;
}

/* --- rows --- */

static uint32_t bound(uint64_t value)
{
    return value < SAMPLER_NONE ? (uint32_t)value : SAMPLER_NONE - 1;
}

static uint32_t rate(uint64_t before, uint64_t now, uint64_t passed_us)
{
    uint64_t more = now > before ? now - before : 0;
    return bound((uint64_t)((double)more * 1e6 / (double)passed_us + 0.5));
}

static void add_quantiles(struct sampler_row *row, enum sampler_column median,
                          const struct histogram_snapshot *before,
                          const struct histogram_snapshot *now)
{
    struct histogram_snapshot second;
    subtract(now, before, &second);
    bool any = second.count > 0;
    row->values[median] = any ? bound(histogram_quantile_us(&second, 0.5)) : SAMPLER_NONE;
    row->values[median + 1] = any ? bound(histogram_quantile_us(&second, 0.99)) : SAMPLER_NONE;
}

static void fill_row(struct sampler_row *row, const struct sampler_totals *before,
                     const struct sampler_totals *now, uint64_t passed_us)
{
    uint32_t *values = row->values;
    values[SAMPLER_MESSAGES] = rate(before->messages, now->messages, passed_us);
    values[SAMPLER_OCTETS] = rate(before->octets, now->octets, passed_us);
    values[SAMPLER_ACCEPTED] = rate(before->connections, now->connections, passed_us);
    values[SAMPLER_QUEUED] = bound(now->courier.queued);
    values[SAMPLER_DELIVERED] = rate(before->courier.delivered, now->courier.delivered, passed_us);
    values[SAMPLER_DEFERRED] = rate(before->courier.deferred, now->courier.deferred, passed_us);
    values[SAMPLER_FAILED] = rate(before->courier.refused, now->courier.refused, passed_us);
    values[SAMPLER_REFUSALS] = rate(before->refusals, now->refusals, passed_us);
    values[SAMPLER_HANDSHAKES] = rate(before->handshakes, now->handshakes, passed_us);
    add_quantiles(row, SAMPLER_COMMIT_P50, &before->phases[SERVER_PHASE_COMMIT],
                  &now->phases[SERVER_PHASE_COMMIT]);
    add_quantiles(row, SAMPLER_WHOLE_P50, &before->phases[PHASE_WHOLE], &now->phases[PHASE_WHOLE]);
}

/* --- threads --- */

/* Threads come and go at a start or a drain only; then the loads of all rows move along. */
static void find_threads(struct sampler *sampler)
{
    struct threads before = sampler->threads;
    uint8_t moved[THREADS_MAX];
    threads_find(&sampler->threads);
    for (uint32_t row = 0; before.count > 0 && row < SAMPLER_ROWS; row++) {
        memset(moved, 0, sizeof(moved));
        for (uint32_t i = 0; i < sampler->threads.count; i++)
            for (uint32_t old = 0; old < before.count; old++)
                if (before.all[old].id == sampler->threads.all[i].id)
                    moved[i] = sampler->rows[row].loads[old];
        memcpy(sampler->rows[row].loads, moved, sizeof(moved));
    }
}

static bool same_threads(const struct threads *a, const struct threads *b)
{
    for (uint32_t i = 0; i < a->count && a->count == b->count; i++)
        if (a->all[i].id != b->all[i].id)
            return false;
    return a->count == b->count;
}

static void look_for_threads(struct sampler *sampler, uint64_t now_us)
{
    if (sampler->searched_us != 0 && now_us - sampler->searched_us < SEARCH_US)
        return;
    struct threads now = sampler->threads;
    sampler->searched_us = now_us;
    threads_find(&now);
    if (!same_threads(&now, &sampler->threads))
        find_threads(sampler);
}

/* --- use --- */

static void mark(struct sampler *sampler, uint64_t now_us)
{
    if (sampler->marked_us != 0 && now_us - sampler->marked_us < SAMPLER_MARK_S * 1000000ull)
        return;
    sampler->marked_us = now_us;
    sampler->marks[sampler->mark_next] = (struct sampler_mark){now_us, sampler->totals};
    sampler->mark_next = (sampler->mark_next + 1) % SAMPLER_MARKS;
}

void sampler_take(struct sampler *sampler, const struct metrics_sources *sources, uint64_t now_us,
                  uint64_t wall_s)
{
    struct sampler_totals now;
    add_up(sources, &now);
    look_for_threads(sampler, now_us);
    threads_look(&sampler->threads, now_us);
    if (sampler->taken_us != 0 && now_us > sampler->taken_us) {
        struct sampler_row *row = &sampler->rows[sampler->sequence % SAMPLER_ROWS];
        *row = (struct sampler_row){.time_s = (uint32_t)wall_s};
        fill_row(row, &sampler->totals, &now, now_us - sampler->taken_us);
        row->values[SAMPLER_CONNECTIONS] =
            sources->admission == NULL ? 0 : admission_count(sources->admission);
        row->values[SAMPLER_CPU] = sampler->threads.load;
        for (uint32_t i = 0; i < sampler->threads.count; i++)
            row->loads[i] = sampler->threads.all[i].load;
        sampler->sequence++;
    }
    sampler->totals = now;
    sampler->taken_us = now_us;
    mark(sampler, now_us);
}

uint64_t sampler_first(const struct sampler *sampler, uint64_t since)
{
    uint64_t oldest = sampler->sequence > SAMPLER_ROWS ? sampler->sequence - SAMPLER_ROWS : 0;
    /* Who asks for rows that are still to come knows another process: it gets all. */
    return since < oldest || since > sampler->sequence ? oldest : since;
}

const struct sampler_row *sampler_row(const struct sampler *sampler, uint64_t row)
{
    return &sampler->rows[row % SAMPLER_ROWS];
}

const struct sampler_mark *sampler_minute(const struct sampler *sampler)
{
    for (uint32_t i = 0; i < SAMPLER_MARKS; i++) {
        const struct sampler_mark *oldest =
            &sampler->marks[(sampler->mark_next + i) % SAMPLER_MARKS];
        if (oldest->time_us != 0)
            return oldest;
    }
    return NULL;
}

void sampler_phase(const struct sampler *sampler, const struct sampler_mark *mark_or_null,
                   enum server_phase phase, struct histogram_snapshot *out)
{
    static const struct histogram_snapshot nothing;
    subtract(&sampler->totals.phases[phase],
             mark_or_null == NULL ? &nothing : &mark_or_null->totals.phases[phase], out);
}
