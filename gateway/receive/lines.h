/* How a session reads lines: commands, and responses to AUTH. A line is read where it lies; one
 * that is unfinished is put aside in a block. What users send is wiped when it has been read, for
 * it may be a secret, or the beginning of one; here only what was put aside. */
#ifndef GATEWAY_RECEIVE_LINES_H
#define GATEWAY_RECEIVE_LINES_H

#include "gateway/receive/session.h"

/* lines_read takes one line, or what there is of it, from the front of `in` (SESSION_COMMAND,
 * SESSION_AUTH), lines_skip the rest of one that can't be read (SESSION_SKIP_LINE). Both return the
 * octets taken. */
size_t lines_read(struct session *session, struct bytes in);
size_t lines_skip(struct session *session, struct bytes in);

/* lines_drop lets go of an unfinished line. */
void lines_drop(struct session *session);

/* lines_wipe overwrites octets that the stream has given. */
void lines_wipe(struct bytes octets);

#endif
