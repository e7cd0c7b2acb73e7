/* One conversation: what the client sends is read in place and answered; at each phase the sink may
 * do what it was told to do wrong instead. */
#ifndef BENCH_SINK_SESSION_H
#define BENCH_SINK_SESSION_H

#include "bench/sink_server.h"

enum {
    SINK_LINE_MAX = 4096,        /* octets of a command line, CR LF included */
    SINK_RECIPIENTS_MAX = 10000, /* of a message */
};

enum sink_state {
    SINK_REJECTED = 0,  /* the greeting was a 5xx: only QUIT is answered well (RFC 5321 3.1) */
    SINK_CONNECTED = 1, /* no HELO, EHLO or LHLO yet */
    SINK_READY = 2,     /* no transaction */
    SINK_MAIL = 3,      /* reverse-path given */
    SINK_RCPT = 4,      /* at least one forward-path accepted */
    SINK_CHUNKS = 5,    /* at least one BDAT chunk taken, the last one not */
};

enum sink_mode {
    SINK_MODE_COMMAND = 0,
    SINK_MODE_DATA = 1,
    SINK_MODE_CHUNK = 2,
    SINK_MODE_ANSWER = 3, /* LMTP: replies are left to be given */
};

struct sink_session {
    struct sink_server *server;
    struct sink_message *message; /* from MAIL on, or NULL */
    struct list_node delayed;     /* in server->delayed: the reply for `phase` waits */
    uint64_t due_us;
    uint8_t *line;             /* block with an unfinished command line, or NULL */
    const char *chunk_refusal; /* the chunk is only skipped, and this is its answer */
    uint64_t number;           /* of the connection */
    uint64_t chunk_left;       /* octets of the present chunk still to come */
    uint16_t line_len;
    uint8_t state; /* enum sink_state */
    uint8_t mode;  /* enum sink_mode */
    uint8_t phase; /* enum sink_phase, of the delay */
    bool chunk_last;
    bool extended; /* EHLO or LHLO */
};

/* The stream's callbacks (gateway/io/stream.h). */
void sink_session_opened(struct worker *worker, struct stream *stream, void *owner);
size_t sink_session_received(struct stream *stream, void *owner, const uint8_t *data, size_t len);
void sink_session_writable(struct stream *stream, void *owner);
void sink_session_secured(struct stream *stream, void *owner);
void sink_session_timed_out(struct stream *stream, void *owner);
void sink_session_closed(struct stream *stream, void *owner, int error);

/* sink_session_delayed gives the reply that has waited. sink_session_drain ends a session between
 * two commands with 421; the others are ended after their message. */
void sink_session_delayed(struct sink_session *session);
void sink_session_drain(struct sink_session *session);

/* For sink_verbs.c and sink_answer.c. sink_session_say gives a reply line; sink_session_leave the
 * last one, and ends the connection in order. sink_session_forget drops the message under way. */
void sink_session_say(struct sink_session *session, struct bytes line);
void sink_session_leave(struct sink_session *session, struct bytes line);
void sink_session_forget(struct sink_session *session);

/* sink_session_room is true when a reply fits. Else the stream has been paused, until `writable`.
 */
bool sink_session_room(struct sink_session *session);

#endif
