/* What lies on disk and goes out: the spool, deliveries, the queue, DNS. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/admin/metrics_inside.h"
#include "gateway/base/clock.h"
#include "gateway/deliver/destination.h"

enum { NUMBER_LEN = 24 };

static void counter(struct exposition *out, const char *name, const char *help, uint64_t value)
{
    exposition_single(out, name, EXPOSITION_COUNTER, help, value);
}

static void gauge(struct exposition *out, const char *name, const char *help, uint64_t value)
{
    exposition_single(out, name, EXPOSITION_GAUGE, help, value);
}

/* --- the spool --- */

static void spool_states(struct exposition *out, struct spool *spool)
{
    static const char *const names[] = {[SPOOL_OPEN] = "open",
                                        [SPOOL_FULL] = "full",
                                        [SPOOL_BROKEN] = "broken",
                                        [SPOOL_QUEUE_FULL] = "queue_full"};
    enum spool_state state = spool_state(spool);
    exposition_family(out, "ringmx_spool_state", EXPOSITION_GAUGE,
                      "1 for the state that the spool is in, 0 for all others.");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        exposition_count(out, state == i, "state", names[i], NULL);
}

static void spool_volume(struct exposition *out, struct spool *spool)
{
    uint64_t size, available;
    if (!spool_space(spool, &size, &available))
        return;
    gauge(out, "ringmx_spool_volume_bytes", "Size of the file system with the spool.", size);
    gauge(out, "ringmx_spool_volume_free_bytes", "Of that, what is free for us.", available);
}

void metrics_spool(struct exposition *out, const struct metrics_sources *sources)
{
    struct spool_snapshot spool;
    struct histogram_snapshot sync = {0};
    spool_snapshot(sources->spool, &spool);
    spool_sync_times(sources->spool, &sync);
    spool_states(out, sources->spool);
    gauge(out, "ringmx_spool_messages", "Messages on disk that are not finished.", spool.messages);
    if (spool.messages_max != 0)
        gauge(out, "ringmx_spool_messages_limit", "How many there may be (queue.messages).",
              spool.messages_max);
    exposition_family(out, "ringmx_spool_segments", EXPOSITION_GAUGE,
                      "Segment files: ready to be written, in use, or given up after an error.");
    exposition_count(out, spool.segments_ready, "state", "ready", NULL);
    exposition_count(out, spool.segments_live - spool.segments_poisoned, "state", "used", NULL);
    exposition_count(out, spool.segments_poisoned, "state", "poisoned", NULL);
    counter(out, "ringmx_spool_batches_total", "Batches made durable, each with one sync.",
            spool.batches);
    counter(out, "ringmx_spool_commits_total", "Messages made durable.", spool.commits);
    counter(out, "ringmx_spool_written_bytes_total", "Octets of these batches.", spool.octets);
    counter(out, "ringmx_spool_relocated_bytes_total", "Of these, copies that free old segments.",
            spool.octets_relocated);
    exposition_family(out, "ringmx_spool_sync_duration_seconds", EXPOSITION_HISTOGRAM,
                      "How long a batch took to be written and synced.");
    exposition_histogram(out, &sync, NULL, NULL);
    counter(out, "ringmx_spool_write_errors_total", "Batches that could not be written or synced.",
            spool.write_errors);
    counter(out, "ringmx_spool_damaged_records_total",
            "Records that could not be read for damage, since the start.", spool.records_damaged);
    counter(out, "ringmx_spool_damaged_bytes_total",
            "Octets that could not be read for damage, since the start.", spool.octets_damaged);
    spool_volume(out, sources->spool);
}

/* --- deliveries and DNS --- */

static void connections(struct exposition *out, const struct courier_snapshot *now)
{
    const struct destinations_counters *counters = &now->connecting;
    gauge(out, "ringmx_delivery_connections", "Connections to next hops, now.", now->connections);
    counter(out, "ringmx_delivery_connects_total", "Connections to next hops that were begun.",
            counters->begun);
    exposition_family(out, "ringmx_delivery_connect_results_total", EXPOSITION_COUNTER,
                      "What became of them: good for mail, or not.");
    exposition_count(out, counters->greeted, "result", "greeted", NULL);
    exposition_count(out, counters->failed, "result", "failed", NULL);
}

/* hop_questions is what was asked of next hops before the client was answered (docs/through.md). */
static void hop_questions(struct exposition *out, const struct courier_snapshot *now)
{
    const struct passages_counters *passages = &now->passages;
    const struct callaheads_counters *asked = &now->callaheads;
    gauge(out, "ringmx_through_open_transactions", "Transactions passed through, now.",
          passages->open);
    exposition_family(out, "ringmx_through_recipients_total", EXPOSITION_COUNTER,
                      "Recipients that were passed through, by what the next hop said.");
    exposition_count(out, passages->delivered, "outcome", "delivered", NULL);
    exposition_count(out, passages->deferred, "outcome", "deferred", NULL);
    exposition_count(out, passages->refused, "outcome", "refused", NULL);
    counter(out, "ringmx_through_spooled_total",
            "Transactions that the spool took over from a next hop.", passages->given_up);
    exposition_family(out, "ringmx_callahead_questions_total", EXPOSITION_COUNTER,
                      "Questions whether a recipient exists, by where the answer came from.");
    exposition_count(out, asked->asked, "source", "hop", NULL);
    exposition_count(out, asked->cached, "source", "cache", NULL);
    exposition_count(out, asked->merged, "source", "shared", NULL);
    counter(out, "ringmx_callahead_refused_total", "Answers that there is no such recipient.",
            asked->refused);
    counter(out, "ringmx_callahead_unanswered_total", "Questions without an answer.",
            asked->unknown);
    gauge(out, "ringmx_callahead_cache_entries", "Answers that are remembered.", asked->entries);
}

static void resolver(struct exposition *out, const struct dns_snapshot *dns)
{
    counter(out, "ringmx_dns_questions_total", "Questions to the resolver, the cache included.",
            dns->asked);
    counter(out, "ringmx_dns_cache_hits_total", "Questions that the cache answered.", dns->hits);
    exposition_family(out, "ringmx_dns_answers_total", EXPOSITION_COUNTER,
                      "Answers of name servers, by result.");
    exposition_count(out, dns->found, "result", "found", NULL);
    exposition_count(out, dns->no_data, "result", "no_data", NULL);
    exposition_count(out, dns->no_name, "result", "no_name", NULL);
    exposition_count(out, dns->failed, "result", "failed", NULL);
    exposition_count(out, dns->timed_out, "result", "timed_out", NULL);
    gauge(out, "ringmx_dns_cache_entries", "Answers in the cache.", dns->cached);
    gauge(out, "ringmx_dns_pending_questions", "Questions without an answer yet.", dns->pending);
}

void metrics_deliver(struct exposition *out, const struct metrics_sources *sources)
{
    struct courier_snapshot now;
    courier_snapshot(sources->courier, &now);
    gauge(out, "ringmx_queue_messages", "Messages in the queue, held ones included.", now.queued);
    gauge(out, "ringmx_queue_held_consignments",
          "Parts of messages on hold: by the operator, or for want of a route.", now.held);
    exposition_family(out, "ringmx_deliveries_total", EXPOSITION_COUNTER,
                      "Recipients, by outcome; deferred once for each attempt that failed.");
    exposition_count(out, now.delivered, "outcome", "delivered", NULL);
    exposition_count(out, now.deferred, "outcome", "deferred", NULL);
    exposition_count(out, now.refused, "outcome", "refused", NULL);
    counter(out, "ringmx_notifications_total", "Delivery status notifications made.", now.bounces);
    gauge(out, "ringmx_duplicates_possible",
          "Deliveries that a crash now would repeat: their outcome is not on disk yet.",
          now.duplicates_possible);
    connections(out, &now);
    hop_questions(out, &now);
    resolver(out, &now.dns);
}

/* --- the queue, as it was at the last census --- */

static void queue_ages(struct exposition *out, const struct queue_census_result *census)
{
    exposition_family(out, "ringmx_queue_aged_recipients", EXPOSITION_GAUGE,
                      "Recipients in the queue, by age: up to this, above the age before.");
    for (uint32_t i = 0; i < QUEUE_CENSUS_AGES; i++) {
        char text[NUMBER_LEN] = "+Inf";
        if (queue_census_ages_s[i] != UINT64_MAX)
            snprintf(text, sizeof(text), "%" PRIu64, queue_census_ages_s[i]);
        exposition_count(out, census->by_age[i], "age_max", text, NULL);
    }
    gauge(out, "ringmx_queue_oldest_age_seconds", "Age of the oldest message in the queue.",
          census->oldest_s);
}

#define ROW(member) offsetof(struct queue_census_row, member)

static void queue_destinations(struct exposition *out, const struct queue_census_result *census)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } columns[] = {
        {"ringmx_queue_destination_recipients",         "Recipients that wait for it.", ROW(recipients)},
        {"ringmx_queue_destination_bytes",              "Octets of their messages.",    ROW(octets)    },
        {"ringmx_queue_destination_oldest_age_seconds", "Age of the oldest of them.",
         ROW(oldest_s)                                                                                 },
    };
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        exposition_family(out, columns[i].name, EXPOSITION_GAUGE, columns[i].help);
        for (uint32_t n = 0; n < census->row_count; n++) {
            const char *row = (const char *)&census->rows[n];
            exposition_count(out, *(const uint64_t *)(const void *)(row + columns[i].offset),
                             "destination", census->rows[n].destination, NULL);
        }
    }
    exposition_family(out, "ringmx_queue_destination_dead", EXPOSITION_GAUGE,
                      "1: nothing gets through to this one of these destinations; 0: it does.");
    for (uint32_t n = 0; n < census->row_count; n++)
        exposition_count(out, census->rows[n].dead, "destination", census->rows[n].destination,
                         NULL);
}

void metrics_queue(struct exposition *out, const struct metrics_sources *sources)
{
    struct queue_census_result *census =
        sources->census == NULL ? NULL : calloc(1, sizeof(struct queue_census_result));
    if (census == NULL)
        return;
    queue_census_read(sources->census, census);
    if (census->taken_us != 0) {
        uint64_t now_us = clock_monotonic_us();
        exposition_family(out, "ringmx_queue_census_age_seconds", EXPOSITION_GAUGE,
                          "How old the figures by age and by destination are.");
        exposition_seconds(out, now_us > census->taken_us ? now_us - census->taken_us : 0, NULL);
        queue_ages(out, census);
        queue_destinations(out, census);
        exposition_family(out, "ringmx_destinations", EXPOSITION_GAUGE,
                          "Destinations in memory: at rest, being served, or dead.");
        exposition_count(out, census->destinations[DESTINATION_IDLE], "state", "idle", NULL);
        exposition_count(out, census->destinations[DESTINATION_BUSY], "state", "busy", NULL);
        exposition_count(out, census->destinations[DESTINATION_DEAD], "state", "dead", NULL);
    }
    free(census);
}
