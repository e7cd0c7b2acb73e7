/* One message on a connection: the commands of its envelope, its content in one piece or in chunks,
 * the replies to them, and what is counted and timed. */
#ifndef BENCH_LOAD_TRANSACTION_H
#define BENCH_LOAD_TRANSACTION_H

#include "bench/load/dialogue.h"

/* transaction_begin takes the next message, whose intended start was `intended_ns` (closed loop:
 * 0), and enters the phase of its envelope. */
void transaction_begin(struct connection *connection, uint64_t intended_ns);

/* transaction_proceed sends what comes next: commands or content. Nothing may be lent. */
void transaction_proceed(struct connection *connection);

/* transaction_returned: what was lent has left. The next chunk is sent, if none waits for replies.
 */
void transaction_returned(struct connection *connection);

/* transaction_reply takes a reply in the phases of envelope and content. */
void transaction_reply(struct connection *connection, int code, struct dialogue_line line,
                       uint64_t now_ns);

/* transaction_fail counts the message under way as refused, once; transaction_lost as lost with its
 * connection; transaction_drop takes it back: it was broken off on purpose. */
void transaction_fail(struct connection *connection);
void transaction_lost(struct connection *connection);
void transaction_drop(struct connection *connection);

/* transaction_under_way says whether there is a message that has not been answered or refused. */
static inline bool transaction_under_way(const struct connection *connection)
{
    return !connection->refused &&
           (connection->phase == CONNECTION_ENVELOPE || connection->phase == CONNECTION_CONTENT);
}

#endif
