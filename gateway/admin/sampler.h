/* The last ten minutes, a row for each second, and what has happened within the last minute: for
 * the status page, so that one that is opened has a history at once. Memory is fixed: no figure of
 * it grows with traffic. One thread at a time; the sources are read as they change. */
#ifndef GATEWAY_ADMIN_SAMPLER_H
#define GATEWAY_ADMIN_SAMPLER_H

#include "gateway/admin/metrics.h"
#include "gateway/admin/threads.h"

enum {
    SAMPLER_ROWS = 600,
    SAMPLER_MARKS = 7,   /* one each SAMPLER_MARK_S: the oldest is a minute ago */
    SAMPLER_MARK_S = 10, /* seconds */
};

/* What a row tells; rates are per second, times in microseconds. */
enum sampler_column {
    SAMPLER_MESSAGES = 0, /* accepted */
    SAMPLER_OCTETS,       /* of them */
    SAMPLER_CONNECTIONS,  /* now */
    SAMPLER_ACCEPTED,     /* connections */
    SAMPLER_COMMIT_P50,
    SAMPLER_COMMIT_P99,
    SAMPLER_WHOLE_P50, /* of a message: MAIL to the reply */
    SAMPLER_WHOLE_P99,
    SAMPLER_QUEUED, /* messages now */
    SAMPLER_DELIVERED,
    SAMPLER_DEFERRED,
    SAMPLER_FAILED,
    SAMPLER_REFUSALS, /* replies 4xx and 5xx */
    SAMPLER_HANDSHAKES,
    SAMPLER_CPU, /* percent of one CPU, the whole process */
    SAMPLER_COLUMNS,
};

#define SAMPLER_NONE UINT32_MAX /* a percentile of nothing */

extern const char *const sampler_column_names[SAMPLER_COLUMNS];

struct sampler_row {
    uint32_t time_s; /* Unix time */
    uint32_t values[SAMPLER_COLUMNS];
    uint8_t loads[THREADS_MAX]; /* percent, as the sampler's threads stand */
};

/* Sums over all workers, since the start. */
struct sampler_totals {
    uint64_t connections, messages, octets, recipients, handshakes, handshakes_failed, resumed;
    uint64_t early_talkers, tarpitted, proxied, resets, refusals;
    uint64_t replies[REPLY_COUNT];
    struct histogram_snapshot phases[SERVER_PHASE_COUNT];
    struct courier_snapshot courier;
};

struct sampler_mark {
    uint64_t time_us; /* monotonic; 0: none */
    struct sampler_totals totals;
};

struct sampler {
    uint64_t sequence; /* rows that there ever were; row n is rows[n % SAMPLER_ROWS] */
    uint64_t taken_us; /* monotonic */
    uint64_t marked_us, searched_us;
    uint32_t mark_next;
    struct sampler_totals totals; /* of the last row */
    struct sampler_mark marks[SAMPLER_MARKS];
    struct threads threads;
    struct sampler_row rows[SAMPLER_ROWS];
};

struct sampler *sampler_new(void) __attribute__((warn_unused_result));
void sampler_free(struct sampler *sampler);

/* sampler_take adds a row; once a second. The first call only looks. */
void sampler_take(struct sampler *sampler, const struct metrics_sources *sources, uint64_t now_us,
                  uint64_t wall_s);

/* sampler_first is the oldest row that is still there, at `since` or after it; rows up to
 * sampler->sequence follow. */
uint64_t sampler_first(const struct sampler *sampler, uint64_t since);
const struct sampler_row *sampler_row(const struct sampler *sampler, uint64_t row);

/* sampler_minute is the mark that is about a minute old, or the oldest; NULL: none yet. */
const struct sampler_mark *sampler_minute(const struct sampler *sampler);

/* sampler_phase gives what came to the histogram of a phase since the mark (NULL: ever). */
void sampler_phase(const struct sampler *sampler, const struct sampler_mark *mark,
                   enum server_phase phase, struct histogram_snapshot *out);

#endif
