/* The inner side of a stream (stream.c): what the worker tells it, and what its parts loan.c and
 * secure.c ask of it. */
#ifndef GATEWAY_IO_STREAM_INSIDE_H
#define GATEWAY_IO_STREAM_INSIDE_H

#include "gateway/io/stream.h"
#include "gateway/io/uring.h"

/* stream_start opens a fresh stream (descriptor and slot set, the rest zero): tells the owner, then
 * receives. stream_connect begins to connect one. */
void stream_start(struct worker *worker, struct stream *stream);
void stream_connect(struct worker *worker, struct stream *stream, const struct sockaddr *address,
                    socklen_t address_len);

/* A request has completed; a timer has fired. */
void stream_receive_done(struct worker *worker, struct stream *stream, int result, uint16_t buffer,
                         bool has_buffer, bool more);
void stream_send_done(struct worker *worker, struct stream *stream, int result);
void stream_connect_done(struct worker *worker, struct stream *stream, int result);
void stream_cancel_done(struct worker *worker, struct stream *stream);
void stream_timer_fired(struct worker *worker, struct timer *timer);

/* stream_flush starts the send of what was collected, and frees a dead stream when the kernel owes
 * nothing. Called once for each dirty stream at the end of the turn. */
void stream_flush(struct worker *worker, struct stream *stream);

/* stream_feed_starved re-arms streams that ran out of buffers, while there are some. */
void stream_feed_starved(struct worker *worker);

/* stream_touch lets the stream be looked at at the end of the turn. stream_broken: it is over at
 * once, and the owner hears why. stream_peer_ended: the peer has said farewell inside TLS. */
void stream_touch(struct worker *worker, struct stream *stream);
void stream_broken(struct worker *worker, struct stream *stream, int error);
void stream_peer_ended(struct worker *worker, struct stream *stream);

/* The block that is collected (NULL: no memory; there is no loan), and that `len` octets were put
 * behind what it has. */
uint8_t *stream_collecting(struct worker *worker, struct stream *stream);
void stream_collected(struct worker *worker, struct stream *stream, size_t len);

#endif
