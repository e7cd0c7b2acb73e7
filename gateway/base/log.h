/* Structured log lines, logfmt or JSON. Each thread has a port: a ring of its own that it formats
 * lines into; one log thread empties the rings and writes. The data path never waits for it: when a
 * ring is full the line is dropped, counted, and the loss is reported in a line of its own. */
#ifndef GATEWAY_BASE_LOG_H
#define GATEWAY_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum log_level { LOG_ERROR = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };
enum log_format { LOG_LOGFMT = 0, LOG_JSON = 1 };
enum log_output {
    LOG_STDERR = 0,
    LOG_STDOUT = 1,
    LOG_JOURNAL =
        2, /* standard error, each line with its priority in front: <4>... (sd-daemon(3)) */
};

/* Which lines log.repeats bounds. */
enum log_bound {
    LOG_BOUND_LEVEL = 0, /* those at warn and error */
    LOG_BOUND_OFTEN = 1, /* at any level: strangers can cause them at will */
    LOG_BOUND_AUDIT = 2, /* none: each has to be found later */
};

struct log;
struct log_port;

struct log_options {
    int descriptor; /* where lines go; borrowed */
    enum log_level level;
    enum log_format format;
    enum log_output output;
    uint32_t repeats; /* lines at warn or error of one event in a second that are written, of each
                         port; how many more there were is told by event=repeated. 0: all */
    bool later;       /* log_start starts the thread; lines wait until then */
};

/* A line under construction: lives on the caller's stack, from log_begin to log_end. Private. */
struct log_line {
    struct log_port
        *port; /* NULL: the line is not wanted, or there is no room; every call is then a no-op */
    char *at;
    char *end;
};

/* log_new starts the log thread, unless it is to come later, and returns the log, owned; NULL when
 * threads or memory fail. log_start starts a later one; false: no thread. log_free writes what
 * waits and stops. */
struct log *log_new(const struct log_options *options);
bool log_start(struct log *log) __attribute__((warn_unused_result));
void log_free(struct log *log);

/* log_configure changes level, format, priorities and bound for all lines that begin after it, and
 * the descriptor for all that are not written yet; any thread. */
void log_configure(struct log *log, const struct log_options *options);

/* log_port_new returns a port for one thread; the log owns it. `name` (a constant) appears as
 * thread=NAME in JSON and logfmt at debug level only. */
struct log_port *log_port_new(struct log *log, const char *name);

/* log_wanted is true when lines of this level are written: ask before costly preparations. */
bool log_wanted(const struct log_port *port, enum log_level level);

/* Private: as log_begin, log_bytes and log_number, with the lengths of event and keys, which the
 * compiler knows of constants: to look for their ends was a third of the cost of a line. */
struct log_line log_line_begin(struct log_port *port, enum log_level level, enum log_bound bound,
                               const char *event, size_t event_len);
void log_line_bytes(struct log_line *line, const char *key, size_t key_len, const void *data,
                    size_t len);
void log_line_number(struct log_line *line, const char *key, size_t key_len, uint64_t value);

/* log_begin opens a line `time=... level=... event=EVENT`; then keys in any number; log_end hands
 * it over. Keys and `event` are constants of [a-z0-9_.]. Values may hold any octets from the
 * network: quoted and escaped as the format asks (control octets, invalid UTF-8, and characters
 * that end or turn round a line of text, as \xNN or \uNNNN), cut at 512 octets. log_begin_often is
 * for what strangers can cause at will, log_begin_audit for what must never be left out (enum
 * log_bound). */
static inline struct log_line log_begin(struct log_port *port, enum log_level level,
                                        const char *event)
{
    return log_line_begin(port, level, LOG_BOUND_LEVEL, event, strlen(event));
}

static inline struct log_line log_begin_often(struct log_port *port, enum log_level level,
                                              const char *event)
{
    return log_line_begin(port, level, LOG_BOUND_OFTEN, event, strlen(event));
}

static inline struct log_line log_begin_audit(struct log_port *port, enum log_level level,
                                              const char *event)
{
    return log_line_begin(port, level, LOG_BOUND_AUDIT, event, strlen(event));
}

static inline void log_bytes(struct log_line *line, const char *key, const void *data, size_t len)
{
    log_line_bytes(line, key, strlen(key), data, len);
}

static inline void log_string(struct log_line *line, const char *key, const char *value)
{
    log_line_bytes(line, key, strlen(key), value, strlen(value));
}

static inline void log_number(struct log_line *line, const char *key, uint64_t value)
{
    log_line_number(line, key, strlen(key), value);
}

void log_end(struct log_line *line);

/* log_message is a whole line with one text: log_begin, msg=TEXT printf-formatted, log_end. For
 * start, stop and errors, not for the data path. */
void log_message(struct log_port *port, enum log_level level, const char *event, const char *format,
                 ...) __attribute__((format(printf, 4, 5)));

/* log_dropped returns how many lines were lost to full rings so far. */
uint64_t log_dropped(const struct log *log);

struct log_snapshot {
    uint64_t lines[4];   /* handed over, by enum log_level */
    uint64_t dropped;    /* as log_dropped */
    uint64_t suppressed; /* beyond log_options.repeats */
};

/* log_snapshot reads the counters; any thread. */
void log_snapshot(const struct log *log, struct log_snapshot *snapshot);

enum {
    LOG_RECENT_EACH = 25, /* of each level: a flood of warnings leaves the errors where they are */
    LOG_RECENT_MAX = 2 * LOG_RECENT_EACH,
    LOG_RECENT_TEXT_MAX = 400,
};

struct log_recent {
    char text[LOG_RECENT_TEXT_MAX]; /* the line as written, without priority and line end, cut */
};

/* log_recent copies the newest lines at warn and error (at most `count`), oldest first, and returns
 * how many; *sequence counts all there ever were. Those of log_begin_often are left out,
 * and those of log_begin_audit are warnings. Any thread. */
uint32_t log_recent(struct log *log, struct log_recent *out, uint32_t count, uint64_t *sequence);

#endif
