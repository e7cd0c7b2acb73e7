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

/* secure_new begins with a fresh `tls` (the server's or the client's side), which it takes; NULL:
 * there was no memory for it. Returns NULL without memory. Owned by the stream. */
struct secure *secure_new(struct worker *worker, struct stream *stream, struct tls *tls)
    __attribute__((warn_unused_result));

/* secure_hello lets a client speak first; there is a block that is collected. */
void secure_hello(struct worker *worker, struct stream *stream);

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

/* A loan's window: secure_window_room tells how much memory the records for `len` octets of text
 * need; secure_window takes so much text from the front of `message`, seals it and returns the
 * length of the records, and of what must precede them. 0 (for text): nothing can be sealed any
 * more. */
size_t secure_window_room(size_t len);
size_t secure_window(struct stream *stream, struct msghdr *message, size_t len, uint8_t *out)
    __attribute__((warn_unused_result));

/* secure_error is why TLS has ended the stream (-EPROTO: what the peer sent; -ENOMEM), or 0. */
const struct tls *secure_tls(const struct secure *secure);
bool secure_ready(const struct secure *secure);
bool secure_heard(const struct secure *secure); /* the peer has sent an octet of it */
int secure_error(const struct secure *secure);

#endif
