/* A stream's loan: octets that it sends from where they lie, for owners with much to say. They
 * leave after what was written before, in one request with it; or through TLS, a window of sealed
 * records at a time. */
#ifndef GATEWAY_IO_LOAN_H
#define GATEWAY_IO_LOAN_H

#include "gateway/io/stream.h"

enum { STREAM_LOAN_PIECES = 8 };

/* The owner's memory, and zero at first. */
struct stream_loan {
    struct iovec pieces[STREAM_LOAN_PIECES]; /* set by the owner, and not changed */
    /* What follows is the stream's. */
    struct iovec rest[1 + STREAM_LOAN_PIECES]; /* not yet sent */
    struct msghdr message;
    uint8_t *written; /* block that goes before the pieces, or NULL */
    uint8_t *window;  /* sealed records; NULL: none, or in clear */
    size_t window_room, window_len, window_sent;
};

/* stream_lend sends, after what was written so far, the first `count` of loan->pieces without
 * copying them (with TLS they are sealed elsewhere, a window at a time). The loan and what it names
 * stay as they are until the owner hears `returned`. Until then there is no room to write, no other
 * loan, and TLS can't begin. Only while OPEN. stream_end sends the rest of a loan first, for ten
 * seconds at most. A reset in the midst of a loan may be `closed` with 0: the kernel tells of an
 * error only once, and a send that has done a part of its work keeps it to itself. */
void stream_lend(struct worker *worker, struct stream *stream, struct stream_loan *loan,
                 uint32_t count);

/* The stream's and the worker's side. loan_send begins to send the loan that waits, or goes on; no
 * send is in flight. loan_send_done: one is no longer. loan_return gives the loan back to the
 * owner, who may lend again at once (while OPEN); no send of it is in flight. */
void loan_send(struct worker *worker, struct stream *stream);
void loan_send_done(struct worker *worker, struct stream *stream, int result);
void loan_return(struct worker *worker, struct stream *stream);

#endif
