/* A connection of tls/ and a foreign peer that talk to each other in memory, octet by octet if the
 * test wants it. A peer or a call that does what it never may ends the test. */
#ifndef TESTS_SUPPORT_TALK_H
#define TESTS_SUPPORT_TALK_H

#include "tests/support/peer.h"
#include "tls/tls.h"

enum { TALK_ROOM = 1 << 17 };

/* How many octets each call of tls_handshake gets at most, and how much room; 0: as many as there
 * are. The first call with input may have another number. */
struct talk_pace {
    size_t in, out;
    size_t first_in;
};

struct talk {
    struct tls *tls;
    struct peer peer;
    struct talk_pace pace;
    bool peer_done, peer_failed;
    uint8_t in[TALK_ROOM]; /* from the peer, not yet taken */
    size_t in_len;
    uint8_t out[TALK_ROOM]; /* all that tls_handshake has written */
    size_t out_len;
    size_t given;        /* of those, what the peer has */
    int keys;            /* private-key operations that were asked for */
    size_t damage_at;    /* this octet (from 1) of what comes from the peer is changed; 0: none */
    size_t received;     /* octets that came from the peer */
    uint8_t heard[8192]; /* the first of them, undamaged */
};

/* talk_new takes the connection, and makes the peer. talk_free ends both. */
void talk_new(struct talk *talk, struct tls *tls, const struct peer_options *peer);
void talk_free(struct talk *talk);

/* talk_handshake goes on until one side has failed or both are ready, and returns what the last
 * tls_handshake said. What came behind the handshake stays in `in`. Each call is checked: it takes
 * no more than there is, and says TLS_OUTPUT only with a full output. */
enum tls_status talk_handshake(struct talk *talk);

/* talk_turn is one round of that: what the peer says, then what we say to it. */
enum tls_status talk_turn(struct talk *talk);

/* talk_alert returns the description of the alert in clear at the end of our output; -1: none. */
int talk_alert(const struct talk *talk);

/* talk_send sends text (and what must go before it) to the peer, which must read it. */
void talk_send(struct talk *talk, const void *text, size_t len);

/* talk_receive lets the peer write text, and opens the records until it has come. */
void talk_receive(struct talk *talk, const void *text, size_t len);

/* talk_next_record moves the next record from the peer to `record`; 0: there is none. */
size_t talk_next_record(struct talk *talk, uint8_t *record);

#endif
