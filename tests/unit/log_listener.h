/* A log that writes into a pipe, and what comes out of it, for the tests of gateway/base/log. */
#ifndef TESTS_UNIT_LOG_LISTENER_H
#define TESTS_UNIT_LOG_LISTENER_H

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/log.h"

enum { TIME_LEN = 24 };

/* A log that writes into a pipe, and all that came out of it. */
struct listener {
    int ends[2];
    struct log *log;
    struct log_port *port;
    char *text;
    size_t len;
};

static inline void listen_with(struct listener *listener, struct log_options options)
{
    *listener = (struct listener){0};
    assert_int_equal(pipe2(listener->ends, O_CLOEXEC), 0);
    options.descriptor = listener->ends[1];
    listener->log = log_new(&options);
    assert_non_null(listener->log);
    listener->port = log_port_new(listener->log, "tester");
    assert_non_null(listener->port);
}

static inline void listen_to_log(struct listener *listener, enum log_level level,
                                 enum log_format format)
{
    listen_with(listener, (struct log_options){.level = level, .format = format});
}

static inline bool read_some(struct listener *listener)
{
    listener->text = realloc(listener->text, listener->len + 65537);
    assert_non_null(listener->text);
    ssize_t got = read(listener->ends[0], listener->text + listener->len, 65536);
    assert_true(got >= 0);
    listener->len += (size_t)got;
    listener->text[listener->len] = '\0';
    return got > 0;
}

/* Reads until the log thread, which looks every 50 ms, has had nothing to say for a while. */
static inline void read_what_waits(struct listener *listener)
{
    struct pollfd poll_for = {.fd = listener->ends[0], .events = POLLIN};
    while (poll(&poll_for, 1, 300) == 1)
        read_some(listener);
}

/* Looks only at the end of the text: what is waited for is the newest. */
static inline void read_until(struct listener *listener, const char *wanted)
{
    const char *end = "";
    while (strstr(end, wanted) == NULL) {
        size_t before = listener->len;
        assert_true(read_some(listener));
        end = listener->text + (before < 4096 ? 0 : before - 4096);
    }
}

/* Ends the log and reads the rest. What waits must fit in the pipe: log_free comes first. */
static inline void finish(struct listener *listener)
{
    log_free(listener->log);
    close(listener->ends[1]);
    while (read_some(listener))
        ;
    close(listener->ends[0]);
}

static inline void forget(struct listener *listener)
{
    free(listener->text);
}

static inline size_t count_of(const char *text, const char *wanted)
{
    size_t count = 0;
    size_t wanted_len = strlen(wanted);
    const char *end = text + strlen(text);
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), wanted, wanted_len)) != NULL;
         at++)
        count++;
    return count;
}

#endif
