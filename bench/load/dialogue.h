/* The SMTP or LMTP dialogue on a connection: a reply moves it from one phase to the next, and
 * dialogue_proceed sends what that phase begins with. What belongs to a message is transaction's.
 */
#ifndef BENCH_LOAD_DIALOGUE_H
#define BENCH_LOAD_DIALOGUE_H

#include "bench/load/connection.h"

/* What the server has said, for a message that may be shown. Not terminated. */
struct dialogue_line {
    const char *text;
    size_t len;
};

/* dialogue_enter begins a phase: sends what belongs to it, now or when what is lent has left
 * (dialogue_proceed). */
void dialogue_enter(struct connection *connection, enum connection_phase phase);
void dialogue_proceed(struct connection *connection);

/* dialogue_receive takes what the server has sent. */
void dialogue_receive(struct connection *connection, const char *octets, size_t len,
                      uint64_t now_ns);

/* dialogue_next goes on between two messages: the next one, QUIT, or it waits. */
void dialogue_next(struct connection *connection);

/* dialogue_excuse counts a reply that is not the wanted one, shows the first few, and lets the
 * transaction under way fail. */
void dialogue_excuse(struct connection *connection, int code, struct dialogue_line line);

#endif
