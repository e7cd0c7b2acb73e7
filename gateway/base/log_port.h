/* What log.c (rings and the thread that empties them), log_line.c (the text of lines),
 * log_repeats.c (floods) and log_recent.c (the newest troubles) share. Private to them.
 *
 * A port is a ring of octets with one producer, its thread, and one consumer, the log thread.
 * Positions only grow. A line is formatted in place and may run over the end of the ring into a
 * margin; log_end then copies what lies there to the front, so that the ring reads as one. */
#ifndef GATEWAY_BASE_LOG_PORT_H
#define GATEWAY_BASE_LOG_PORT_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <time.h>

#include "gateway/base/bell.h"
#include "gateway/base/log.h"

enum {
    LOG_RING_SIZE = 1 << 20,
    LOG_LINE_MAX = 1 << 14, /* octets of one line; keys that find no room are left out */
    LOG_VALUE_MAX = 512,    /* octets of one value before escaping */
    LOG_TIME_LEN = 24,      /* 2026-11-21T20:25:15.123Z */
    LOG_PORTS_MAX = 128,
    LOG_REPEATS_MAX = 64, /* events of one port that are bounded; more are all written */
    LOG_MARKS_MAX = 64,   /* lines at warn and error between two turns of the log thread */
    LOG_MARKS_WARN_MAX = LOG_MARKS_MAX / 2, /* the rest is for errors */
};

/* An event of a port that is bounded: how often it came. */
struct log_repeat {
    const char *event; /* a constant */
    size_t event_len;
    enum log_level level; /* of the first */
    enum log_bound bound; /* likewise */
    int64_t second;       /* in which so many were written: */
    uint32_t written;
    _Atomic uint64_t suppressed;

    /* Of the log thread. */
    uint64_t told;   /* of `suppressed` */
    uint64_t proven; /* of `told`: the line was taken */
};

/* Where a line at warn or error begins. */
struct log_mark {
    uint64_t position;
    enum log_level level;
};

/* The newest lines of a level. */
struct log_kept {
    uint64_t count;                    /* all there ever were */
    uint64_t numbers[LOG_RECENT_EACH]; /* among those of both levels */
    struct log_recent lines[LOG_RECENT_EACH];
};

struct log_port {
    /* Of the producer. */
    alignas(64) _Atomic uint64_t head; /* end of what was handed over */
    uint64_t tail_seen;                /* the tail as last looked at: never ahead of it */
    _Atomic uint64_t dropped;
    struct log *log;
    char *ring; /* LOG_RING_SIZE + LOG_LINE_MAX octets */
    const char *name;
    int64_t time_s; /* of `time` */
    int64_t time_ms;
    enum log_format format; /* of the line under construction: the log's may change meanwhile */
    enum log_level level;   /* of it, too */
    bool open;              /* a line is under construction */
    enum log_level recent;  /* those it is kept among; above LOG_WARN: none */
    char time[LOG_TIME_LEN];
    _Atomic uint64_t lines[4]; /* by enum log_level */
    _Atomic uint32_t repeat_count;
    struct log_repeat repeats[LOG_REPEATS_MAX];
    _Atomic uint32_t mark_head;
    struct log_mark marks[LOG_MARKS_MAX];

    /* Of the log thread. */
    alignas(64) _Atomic uint64_t tail; /* start of what was not written yet */
    uint64_t taken;                    /* end of what the batch in hand has of it */
    _Atomic uint32_t mark_tail;
};

/* log_mode has all that a line looks at in one word, so that it sees all of the same moment. */
enum { LOG_MODE_LEVEL = 0xff, LOG_MODE_JSON = 1 << 8, LOG_MODE_PRIORITY = 1 << 9 };

static inline uint32_t log_mode(const struct log_options *options)
{
    return (uint32_t)options->level | (options->format == LOG_JSON ? LOG_MODE_JSON : 0) |
           (options->output == LOG_JOURNAL ? LOG_MODE_PRIORITY : 0);
}

struct log {
    _Atomic uint32_t mode;
    _Atomic uint32_t repeats; /* lines of an event in a second; 0: all */
    _Atomic int descriptor;
    _Atomic uint32_t port_count;
    struct log_port *ports[LOG_PORTS_MAX]; /* the first is the log thread's own */
    struct bell bell;
    _Atomic bool stopping;
    _Atomic uint64_t lost; /* lines that the descriptor did not take */
    pthread_mutex_t mutex; /* for making ports */
    pthread_t thread;
    bool started;

    /* Of the log thread. */
    alignas(64) int used; /* the descriptor of the last turn */
    bool torn;            /* the last write ended inside a line */
    bool failing;         /* the last batch was not taken */
    uint64_t reported;    /* lines whose loss was told */
    time_t repeats_s;     /* when repeats were told */
    bool repeats_told;    /* in the batch in hand */

    pthread_mutex_t recent_mutex; /* of the two below */
    uint64_t recent_count;        /* all there ever were */
    struct log_kept recent[2];    /* by enum log_level: strangers can cause warnings, not errors */
};

/* log_repeats_over: the event had its lines of this second; this one is counted, and is not to be
 * written. Producer. */
bool log_repeats_over(struct log_port *port, enum log_level level, enum log_bound bound,
                      const char *event, size_t event_len);

/* log_repeats_tell writes a line for each event that was suppressed since it was told last;
 * log_repeats_told hears whether the batch with these lines was taken. Log thread. */
void log_repeats_tell(struct log *log);
void log_repeats_told(struct log *log, bool taken);
uint64_t log_repeats_count(const struct log_port *port); /* any thread */

/* log_recent_mark notes where a line at warn or error begins, before it is handed over. Producer.
 * log_recent_gather keeps those that the batch in hand has of a port. Log thread. */
void log_recent_mark(struct log_port *port, enum log_level level, uint64_t position);
void log_recent_gather(struct log *log, struct log_port *port);

/* log_time brings port->time up to date. */
void log_time(struct log_port *port);

#endif
