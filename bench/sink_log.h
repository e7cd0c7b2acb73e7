/* The sink's account: one line (logfmt) for each message that it accepted, in the file before the
 * client hears so. Each thread has its own end of the file and writes whole lines once a turn. */
#ifndef BENCH_SINK_LOG_H
#define BENCH_SINK_LOG_H

#include "bench/sink_message.h"

#include <time.h>

struct tls_info;

struct sink_log {
    int descriptor; /* opened for appending; borrowed; -1: no log is kept */
    char *buffer;
    size_t len;
    time_t time_s; /* of `time` */
    char time[24]; /* "2026-11-21T20:25:15." */
};

/* What a line says besides the message. */
struct sink_log_context {
    uint64_t now_wall_us;
    uint64_t number;            /* of the message, as in the reply */
    uint64_t session;           /* of the connection */
    const struct tls_info *tls; /* NULL: in clear */
};

/* sink_log_init takes the memory for the lines of one turn. False: none. */
bool sink_log_init(struct sink_log *log, int descriptor) __attribute__((warn_unused_result));
void sink_log_cleanup(struct sink_log *log);

/* sink_log_message adds the line of a message that was accepted for at least one recipient.
 * sink_log_flush writes the lines; when the file does not take them the program ends (exit code 1):
 * an account with holes is none. */
void sink_log_message(struct sink_log *log, const struct sink_message *message,
                      const struct sink_log_context *context);
void sink_log_flush(struct sink_log *log);

#endif
