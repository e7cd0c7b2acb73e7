/* A stream connection (TCP, or ours to a unix socket): receive, ordered send, orderly end. It lives
 * in a slot of its worker, and the owner's own state (a session, say) lies right behind it in the
 * same slot.
 *
 * A stream ends in named steps: OPEN -> DRAINING (the last octets are on their way) -> LINGERING
 * (our side is shut; the peer's farewell is awaited, so that no reset destroys what it has not read
 * yet) -> CLOSING (waiting for the kernel's debts) -> free. */
#ifndef GATEWAY_IO_STREAM_H
#define GATEWAY_IO_STREAM_H

#include "gateway/base/list.h"
#include "gateway/base/timer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct worker;
struct secure;
struct stream_loan;
struct tls;
struct tls_context;
struct tls_session;

enum stream_state {
    STREAM_OPEN,
    STREAM_DRAINING,
    STREAM_LINGERING,
    STREAM_CLOSING,
    STREAM_CONNECTING, /* ours (worker_connect), and not yet OPEN */
};

struct stream {
    uint32_t slot;
    int descriptor;
    uint8_t state;        /* enum stream_state */
    bool receive_armed;   /* true exactly while the kernel holds our receive request */
    bool send_in_flight;  /* true exactly while the kernel holds our send request */
    bool paused;          /* the owner has left octets untaken, and will resume */
    bool lent;            /* there is a loan: `loan` counts, not `collecting` */
    bool ended : 1;       /* the peer will send no more */
    bool ended_told : 1;  /* and the owner knows */
    bool attending : 1;   /* it is paused until the peer leaves */
    bool cancelling : 1;  /* a cancel of the receive request is under way */
    bool lending : 1;     /* the send in flight is of the loan */
    uint8_t requests_out; /* completions that the kernel owes us, cancels included */
    uint16_t held_first;  /* received buffers that wait for the owner, oldest first */
    uint16_t held_last;
    uint16_t held_count;
    uint16_t collecting_len;
    uint32_t held_offset; /* octets of held_first that were taken */
    uint16_t sending_at;  /* octets of `sending` that have gone */
    uint16_t sending_len;
    uint8_t *sending; /* block that the kernel sends from, or NULL */
    union {
        uint8_t *collecting;      /* block for what comes after it, or NULL */
        struct stream_loan *loan; /* waiting for that, or under way itself */
    };
    uint64_t deadline_us; /* lazily kept: the timer looks at it when it fires; 0: none */
    uint64_t send_us;     /* when the send in flight began */
    struct timer timer;
    struct list_node dirty;   /* in worker->dirty: has something to send, or to settle */
    struct list_node starved; /* in worker->starved: waits for buffers */
    struct list_node all;     /* in worker->streams */
    struct secure *secure;    /* TLS (gateway/io/secure.h); NULL: in clear */
};

/* What the owner of streams is told; given once to the worker. */
struct stream_callbacks {
    /* A new connection: `owner` is zeroed memory behind the stream. Not called for refused ones.
     * One of ours (worker_connect) is connected; `owner` is as its owner left it. */
    void (*opened)(struct worker *worker, struct stream *stream, void *owner);
    /* Octets from the peer. Returns how many were taken; when fewer than `len`, the stream is
     * paused and keeps the rest until stream_resume. */
    size_t (*received)(struct stream *stream, void *owner, const uint8_t *data, size_t len);
    /* Reply room came back after stream_room had been short; only for paused streams. */
    void (*writable)(struct stream *stream, void *owner);
    /* The loan (gateway/io/loan.h) is the owner's again: it has left, or the stream has ended and
     * the kernel holds none of it. Once for each; may come after `closed`. NULL for owners that
     * never lend. */
    void (*returned)(struct stream *stream, void *owner);
    /* The TLS handshake that stream_secure began is done: from here on all is encrypted. */
    void (*secured)(struct stream *stream, void *owner);
    /* The server gave a ticket (we are the client); the callee owns it. NULL: nobody wants any. */
    void (*ticket)(struct stream *stream, void *owner, struct tls_session *session);
    /* The deadline has passed; one of ours may still be CONNECTING. */
    void (*timed_out)(struct stream *stream, void *owner);
    /* The peer has ended, or the connection broke (error < 0), or we ended it (error 0 and state
     * not OPEN). Made exactly once, the last but for `returned`; the owner lets go of all it has.
     */
    void (*closed)(struct stream *stream, void *owner, int error);
};

/* stream_owner returns the owner's memory of a stream; stream_of goes the other way. */
static inline void *stream_owner(struct stream *stream)
{
    return (uint8_t *)stream + sizeof(struct stream);
}

static inline struct stream *stream_of(void *owner)
{
    return (struct stream *)(void *)((uint8_t *)owner - sizeof(struct stream));
}

/* stream_room returns how many octets stream_write would take now. */
size_t stream_room(struct worker *worker, const struct stream *stream);

/* stream_write collects octets for the peer; they leave together at the end of the turn. The caller
 * has asked stream_room. False: no block to be had, or not OPEN; nothing is written then. */
bool stream_write(struct worker *worker, struct stream *stream, const void *data, size_t len);

/* stream_pause lets nothing more reach the owner until stream_resume, as too few octets from
 * `received` do; stream_attend only the peer's farewell, which then ends the stream. */
void stream_pause(struct stream *stream);
void stream_attend(struct stream *stream);

/* stream_sending is true while octets for the peer have not yet left; a loan's, too. */
static inline bool stream_sending(const struct stream *stream)
{
    return stream->send_in_flight || stream->lent || stream->collecting != NULL;
}

/* stream_resume hands the octets that a paused stream holds to the owner again, and goes on
 * receiving. */
void stream_resume(struct worker *worker, struct stream *stream);

/* stream_secure begins TLS as the server, after what was written so far and `last`, our last octets
 * in clear (the 220 of STARTTLS; may be empty). What an owner
 * that calls it from `received` leaves untaken there is for the handshake. Until the owner hears
 * `secured` it is given nothing and can't write (stream_room is 0). When the handshake fails, it
 * hears `closed` with -EPROTO, and stream_tls tells why. Nothing ever leads back to clear text.
 * False: no memory; nothing has changed. */
bool stream_secure(struct worker *worker, struct stream *stream, struct tls_context *context,
                   const void *last, size_t last_len) __attribute__((warn_unused_result));

/* stream_secure_client begins TLS as the client, after what was written so far; `server_name` and
 * `resume` (borrowed) as in tls_client. What came in clear behind the reply to STARTTLS is the
 * owner's to refuse. Otherwise as stream_secure. */
bool stream_secure_client(struct worker *worker, struct stream *stream, struct tls_context *context,
                          const char *server_name, const struct tls_session *resume)
    __attribute__((warn_unused_result));

/* stream_tls is the TLS connection, for tls_info and tls_failure; NULL: in clear. stream_is_secure:
 * the handshake is done. stream_hears_tls: the peer has sent at least an octet of it. */
const struct tls *stream_tls(const struct stream *stream);
bool stream_is_secure(const struct stream *stream);
bool stream_hears_tls(const struct stream *stream);

/* stream_set_deadline lets timed_out be called at `deadline_us` (monotonic), up to a timer tick
 * late; 0: never. Cheap to call often. */
void stream_set_deadline(struct worker *worker, struct stream *stream, uint64_t deadline_us);

/* stream_end sends what is collected, then closes in an orderly way; while CONNECTING it aborts.
 * The owner hears `closed` when it is over. stream_abort closes at once; what is collected is lost.
 */
void stream_end(struct worker *worker, struct stream *stream);
void stream_abort(struct worker *worker, struct stream *stream);

#endif
