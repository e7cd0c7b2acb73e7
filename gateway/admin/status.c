/* status.json: see status.h. Every list is bounded, and so is the text: some 60 KB with all rows.
 */
#include "gateway/admin/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/admin/output.h"

enum { REFUSALS_MAX = 12, LOG_LINES_MAX = 50 };

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); /* no memory is found out at the end */
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    set(object, key, json_integer((json_int_t)value));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    set(object, key, output_text(bytes_of_string(text)));
}

static json_t *health_object(const struct health *health)
{
    json_t *object = json_object();
    enum health_trouble trouble = health_trouble(health);
    set_text(object, "word", health_word(trouble));
    set_text(object, "text", health_text(trouble));
    set(object, "ready", json_boolean(trouble == HEALTH_READY));
    return object;
}

/* --- totals --- */

static json_t *totals_object(const struct sampler_totals *totals)
{
    json_t *object = json_object();
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"connections",       totals->connections      },
        {"messages",          totals->messages         },
        {"octets",            totals->octets           },
        {"recipients",        totals->recipients       },
        {"refusals",          totals->refusals         },
        {"handshakes",        totals->handshakes       },
        {"handshakes_failed", totals->handshakes_failed},
        {"resumed",           totals->resumed          },
        {"early_talkers",     totals->early_talkers    },
        {"tarpitted",         totals->tarpitted        },
        {"proxied",           totals->proxied          },
        {"resets",            totals->resets           },
        {"delivered",         totals->courier.delivered},
        {"deferred",          totals->courier.deferred },
        {"failed",            totals->courier.refused  },
        {"bounces",           totals->courier.bounces  },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        set_number(object, rows[i].key, rows[i].value);
    return object;
}

/* What came within the last minute, as far as the page shows it. */
static json_t *minute_object(const struct sampler *sampler, const struct sampler_mark *mark)
{
    json_t *object = json_object();
    const struct sampler_totals *now = &sampler->totals;
    const struct sampler_totals *then = mark == NULL ? now : &mark->totals;
    uint64_t passed_us = mark == NULL ? 0 : sampler->taken_us - mark->time_us;
    set_number(object, "seconds", (passed_us + 500000) / 1000000);
    set_number(object, "connections", now->connections - then->connections);
    set_number(object, "handshakes", now->handshakes - then->handshakes);
    set_number(object, "resumed", now->resumed - then->resumed);
    set_number(object, "messages", now->messages - then->messages);
    set_number(object, "refusals", now->refusals - then->refusals);
    return object;
}

struct refusal {
    enum reply reply;
    uint64_t minute, total;
};

static int compare_refusals(const void *a, const void *b)
{
    const struct refusal *x = a, *y = b;
    if (x->minute != y->minute)
        return x->minute < y->minute ? 1 : -1;
    return (x->total < y->total) - (x->total > y->total);
}

static json_t *refusals_array(const struct sampler *sampler, const struct sampler_mark *mark)
{
    struct refusal found[REPLY_COUNT];
    size_t count = 0;
    const uint64_t *totals = sampler->totals.replies;
    for (size_t i = 0; i < REPLY_COUNT; i++) {
        if (totals[i] == 0 || reply_code((enum reply)i) < 400)
            continue;
        uint64_t before = mark == NULL ? totals[i] : mark->totals.replies[i];
        found[count++] = (struct refusal){(enum reply)i, totals[i] - before, totals[i]};
    }
    qsort(found, count, sizeof(found[0]), compare_refusals);
    json_t *array = json_array();
    for (size_t i = 0; i < count && i < REFUSALS_MAX; i++) {
        json_t *object = json_object();
        struct bytes line = reply_line(found[i].reply);
        line.len -= 2; /* CR LF */
        set(object, "reply", output_text(line));
        set_number(object, "minute", found[i].minute);
        set_number(object, "total", found[i].total);
        (void)json_array_append_new(array, object);
    }
    return array;
}

static json_t *phases_object(const struct sampler *sampler, const struct sampler_mark *mark)
{
    static const char *const names[SERVER_PHASE_COUNT] = {
        [SERVER_PHASE_HANDSHAKE] = "handshake", [SERVER_PHASE_ENVELOPE] = "envelope",
        [SERVER_PHASE_TEXT] = "text",           [SERVER_PHASE_COMMIT] = "commit",
        [SERVER_PHASE_MESSAGE] = "message",     [SERVER_PHASE_SESSION] = "session",
        [SERVER_PHASE_LOGIN] = "login",
    };
    json_t *all = json_object();
    for (size_t i = 0; i < SERVER_PHASE_COUNT; i++) {
        struct histogram_snapshot phase;
        sampler_phase(sampler, mark, (enum server_phase)i, &phase);
        json_t *object = json_object();
        set_number(object, "count", phase.count);
        if (phase.count > 0) {
            set_number(object, "mean", phase.sum_us / phase.count);
            set_number(object, "p50", histogram_quantile_us(&phase, 0.5));
            set_number(object, "p90", histogram_quantile_us(&phase, 0.9));
            set_number(object, "p99", histogram_quantile_us(&phase, 0.99));
        }
        set(all, names[i], object);
    }
    return all;
}

/* --- what stands behind --- */

static json_t *destination_object(const struct queue_census_row *row)
{
    json_t *object = json_object();
    set_text(object, "name", row->destination);
    set_number(object, "recipients", row->recipients);
    set_number(object, "messages", row->consignments);
    set_number(object, "octets", row->octets);
    set_number(object, "oldest_s", row->oldest_s);
    set(object, "dead", json_boolean(row->dead));
    return object;
}

static json_t *queue_object(const struct status_facts *facts)
{
    json_t *object = json_object();
    const struct courier_snapshot *courier = &facts->sampler->totals.courier;
    set_number(object, "messages", courier->queued);
    set_number(object, "held", courier->held);
    set_number(object, "connections", courier->connections);
    struct queue_census_result *census =
        facts->sources->census == NULL ? NULL : malloc(sizeof(*census));
    if (census == NULL)
        return object;
    queue_census_read(facts->sources->census, census);
    json_t *ages = json_array(), *rows = json_array();
    for (size_t i = 0; i < QUEUE_CENSUS_AGES; i++) {
        uint64_t bound_s = queue_census_ages_s[i];
        json_t *bound = bound_s == UINT64_MAX ? json_null() : json_integer((json_int_t)bound_s);
        (void)json_array_append_new(ages, json_pack("{s:o,s:I}", "below_s", bound, "recipients",
                                                    (json_int_t)census->by_age[i]));
    }
    for (uint32_t i = 0; i < census->row_count; i++)
        (void)json_array_append_new(rows, destination_object(&census->rows[i]));
    set(object, "counted", json_boolean(census->taken_us != 0));
    set_number(object, "oldest_s", census->oldest_s);
    set(object, "ages", ages);
    set(object, "destinations", rows);
    free(census);
    return object;
}

static json_t *spool_object(struct spool *spool)
{
    struct spool_snapshot snapshot;
    spool_snapshot(spool, &snapshot);
    json_t *object = json_object();
    set_text(object, "sync", spool_sync_used(spool));
    set_number(object, "batches", snapshot.batches);
    set_number(object, "commits", snapshot.commits);
    set_number(object, "write_errors", snapshot.write_errors);
    set_number(object, "segments", snapshot.segments_total);
    set_number(object, "live", snapshot.segments_live);
    set_number(object, "ready", snapshot.segments_ready);
    set_number(object, "poisoned", snapshot.segments_poisoned);
    return object;
}

static json_t *threads_array(const struct threads *threads)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < threads->count; i++) {
        json_t *object = json_object();
        set_text(object, "name", threads->all[i].name);
        set_number(object, "id", (uint64_t)threads->all[i].id);
        set_number(object, "load", threads->all[i].load);
        (void)json_array_append_new(array, object);
    }
    return array;
}

/* --- history --- */

static json_t *row_array(const struct sampler_row *row)
{
    json_t *array = json_array();
    (void)json_array_append_new(array, json_integer(row->time_s));
    for (size_t i = 0; i < SAMPLER_COLUMNS; i++)
        (void)json_array_append_new(
            array, row->values[i] == SAMPLER_NONE ? json_null() : json_integer(row->values[i]));
    return array;
}

static json_t *loads_array(const struct sampler_row *row, uint32_t count)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        (void)json_array_append_new(array, json_integer(row->loads[i]));
    return array;
}

static json_t *history_object(const struct sampler *sampler, uint64_t since)
{
    json_t *object = json_object(), *columns = json_array(), *rows = json_array(),
           *loads = json_array();
    uint64_t first = sampler_first(sampler, since);
    (void)json_array_append_new(columns, json_string("time"));
    for (size_t i = 0; i < SAMPLER_COLUMNS; i++)
        (void)json_array_append_new(columns, json_string(sampler_column_names[i]));
    for (uint64_t row = first; row < sampler->sequence; row++) {
        (void)json_array_append_new(rows, row_array(sampler_row(sampler, row)));
        (void)json_array_append_new(loads,
                                    loads_array(sampler_row(sampler, row), sampler->threads.count));
    }
    set_number(object, "first", first);
    set_number(object, "next", sampler->sequence);
    set(object, "columns", columns);
    set(object, "rows", rows);
    set(object, "loads", loads);
    return object;
}

static json_t *problems_array(struct log *log)
{
    json_t *array = json_array();
    struct log_recent *lines = malloc(sizeof(*lines) * LOG_LINES_MAX);
    uint64_t sequence = 0;
    uint32_t count = lines == NULL ? 0 : log_recent(log, lines, LOG_LINES_MAX, &sequence);
    for (uint32_t i = count; i > 0; i--) /* the newest first */
        (void)json_array_append_new(array, output_text(bytes_of_string(lines[i - 1].text)));
    free(lines);
    return array;
}

static void add_sources(json_t *root, const struct status_facts *facts)
{
    const struct metrics_sources *sources = facts->sources;
    const struct sampler *sampler = facts->sampler;
    const struct sampler_mark *mark = sampler_minute(sampler);
    set_text(root, "version", sources->version);
    set_number(root, "started", sources->started_s);
    if (sources->admission != NULL) {
        set_number(root, "connections", admission_count(sources->admission));
        set_number(root, "handshakes", admission_handshakes(sources->admission));
    }
    set_number(root, "connections_max", sources->connections_max);
    set_number(root, "cpu", sampler->threads.load);
    set(root, "totals", totals_object(&sampler->totals));
    set(root, "minute", minute_object(sampler, mark));
    set(root, "phases", phases_object(sampler, mark));
    set(root, "refusals", refusals_array(sampler, mark));
    if (sources->courier != NULL)
        set(root, "queue", queue_object(facts));
    if (sources->spool != NULL)
        set(root, "spool", spool_object(sources->spool));
    set(root, "threads", threads_array(&sampler->threads));
    set(root, "history", history_object(sampler, facts->since));
}

char *status_text(const struct status_facts *facts, size_t *len)
{
    json_t *root = json_object();
    if (root == NULL)
        return NULL;
    set_number(root, "now_ms", facts->wall_us / 1000);
    set(root, "health", health_object(facts->health));
    set(root, "problems", problems_array(facts->log));
    if (facts->sources != NULL)
        add_sources(root, facts);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    *len = text == NULL ? 0 : strlen(text);
    return text;
}
