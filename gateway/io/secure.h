/* TLS on a stream: joins tls/ (octets in, octets out) to the stream's buffers. Records are opened
 * in the receive buffer when they are whole there, else in a block in which their parts are put
 * together. What the owner writes is sealed in the block in which it was collected, as one record,
 * when it leaves. Only stream.c includes this. */
#ifndef GATEWAY_IO_SECURE_H
#define GATEWAY_IO_SECURE_H

#include "gateway/io/stream.h"
#include "tls/tls.h"

/* Where a stream with TLS stands: `secure` exists from stream_secure until the stream is gone. */
struct secure;

/* secure_new begins TLS as the server. NULL: no memory. Owned by the stream. */
struct secure *secure_new(struct worker *worker, struct stream *stream, struct tls_context *context)
    __attribute__((warn_unused_result));

/* secure_free lets go of everything; a private-key operation under way ends by itself. */
void secure_free(struct worker *worker, struct stream *stream);

/* secure_received takes octets from the network and gives the owner what was in them. Returns how
 * many were taken; fewer than `len` only when the stream is paused or ends. The octets are
 * overwritten, and stay where they are until they are taken. */
size_t secure_received(struct worker *worker, struct stream *stream, uint8_t *data, size_t len);

/* secure_writable goes on with a handshake that had no room; false: none waits for room. */
bool secure_writable(struct worker *worker, struct stream *stream);

/* The sending side: room for text, text into the block that is collected, the record around it when
 * it leaves (false: nothing can be sealed any more), and the alert that is our last word. */
size_t secure_room(struct worker *worker, const struct stream *stream);
void secure_write(struct worker *worker, struct stream *stream, const void *data, size_t len);
bool secure_seal(struct stream *stream) __attribute__((warn_unused_result));
void secure_end(struct worker *worker, struct stream *stream);

/* secure_error is why TLS has ended the stream (-EPROTO: what the peer sent; -ENOMEM), or 0. */
const struct tls *secure_tls(const struct secure *secure);
bool secure_ready(const struct secure *secure);
int secure_error(const struct secure *secure);

/* Of stream.c, for secure.c: the block that is collected (NULL: no memory), and that something in
 * it is to be sent; the peer's farewell. */
uint8_t *stream_collecting(struct worker *worker, struct stream *stream);
void stream_collected(struct worker *worker, struct stream *stream, size_t len);
void stream_peer_ended(struct worker *worker, struct stream *stream);

#endif
