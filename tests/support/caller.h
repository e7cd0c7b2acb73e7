/* A TLS client on a socket to the echo server: a foreign peer, its octets cut into pieces, and two
 * checks of all that comes back: it must be records of TLS from the first octet to the last, and no
 * text may be readable in them. Nothing blocks but caller_until. */
#ifndef TESTS_SUPPORT_CALLER_H
#define TESTS_SUPPORT_CALLER_H

#include "tests/support/echo.h"
#include "tests/support/peer.h"

struct caller {
    struct peer peer;
    int descriptor;    /* -1: closed by us */
    size_t piece_max;  /* octets that go to the socket at once; 0: any number */
    size_t budget;     /* octets that may still go to the socket; SIZE_MAX: all */
    bool deaf;         /* reads nothing */
    bool ready;        /* the handshake is done */
    bool failed;       /* the peer found something wrong */
    bool farewell;     /* close_notify came */
    bool ended;        /* end of file came, or an error: see `error` */
    bool cut;          /* and it was inside a record */
    int error;         /* errno of the socket; 0: none */
    const char *fault; /* what the server did wrong on the wire; NULL: nothing */
    uint8_t *out;      /* for the socket */
    size_t out_len, out_room;
    uint8_t *text; /* that came */
    size_t text_len, text_room;
    uint8_t header[5]; /* of the record that is coming */
    size_t header_len, body_left, readable_run, records;
};

/* caller_new connects. caller_free closes what is open. */
void caller_new(struct caller *caller, const struct echo *echo, const struct peer_options *options);
void caller_free(struct caller *caller);

/* caller_write seals text, caller_close close_notify, and caller_raw adds octets as they are, to
 * what caller_step sends. */
void caller_close(struct caller *caller);
void caller_write(struct caller *caller, const void *text, size_t len);
void caller_raw(struct caller *caller, const void *data, size_t len);

/* caller_step sends a piece, takes what has come, and goes on with the handshake. False: there was
 * nothing to do. */
bool caller_step(struct caller *caller);

/* caller_until steps until the handshake is done, so much text has come, or the server has ended;
 * 10 s at most. False: it has not come to that. */
enum caller_goal { CALLER_READY, CALLER_TEXT, CALLER_SENT, CALLER_ENDED };
bool caller_until(struct caller *caller, enum caller_goal goal, size_t text_len);

/* caller_reset ends the connection with a reset; caller_hush says that nothing more will come (the
 * end of file). */
void caller_reset(struct caller *caller);
void caller_hush(struct caller *caller);

#endif
