/* A worker with clients of deliver/client and nothing else, in the test's own thread, and mail for
 * them. It checks what every client owes its owner: callbacks never from within a call, each as
 * often as it must be, and pieces of text that are not looked at after they are gone. */
#ifndef TESTS_SUPPORT_POSTMAN_H
#define TESTS_SUPPORT_POSTMAN_H

#include "gateway/deliver/client.h"
#include "tests/support/scene.h"

enum { PARCEL_RECIPIENTS = 128, POSTMAN_PARCELS = 8 };

/* A delivery, and its text, which is given out in pieces that become void. */
struct parcel {
    struct delivery delivery;
    struct delivery_recipient recipients[PARCEL_RECIPIENTS];
    const char *text;
    size_t text_len;
    size_t piece_max; /* 0: the text is one piece */
    size_t fail_at;   /* the source fails there, with `fail`; 0: it does not */
    int fail;
    size_t at;
    char *piece; /* the one that is valid */
    uint32_t begun, delivered;
    uint32_t answers[PARCEL_RECIPIENTS + 1], answer_count;
    bool data_sent; /* as it was when it was delivered */
    void (*on_answered)(struct parcel *parcel, uint32_t index);
};

struct postman {
    /* Set by the test, after postman_init. */
    struct client_setup setup;
    struct client_peer peer;
    struct parcel *parcels[POSTMAN_PARCELS]; /* given one after another; then client_quit */
    void (*on_turn)(struct postman *postman);
    void (*on_idle)(struct postman *postman); /* instead of the next parcel */
    uint64_t stop_us;                         /* the run ends itself then */

    struct worker worker;
    struct client *client; /* NULL: gone */
    uint32_t next;         /* parcel */
    uint32_t idles, closes;
    bool inside;     /* in a call of the client's: no callback may come */
    bool why_given;  /* to `closed` */
    bool tls_failed; /* as `closed` found it */
    struct verdict why;
    uint32_t used;
    uint32_t turns;
};

/* parcel_make fills one: from sender@example.com to `count` recipients (NULL: user0@example.org
 * ...). */
void parcel_make(struct parcel *parcel, const char *text, size_t len, uint32_t count);

/* postman_init makes the worker (*state not NULL: as on Linux 6.1), time-outs of 5 s, and the peer
 * of a scene (NULL: none). postman_run opens the client and turns until it is closed. postman_free
 * checks that all has come home. */
void postman_init(struct postman *postman, void **state, const struct scene *scene);
void postman_run(struct postman *postman);
void postman_free(struct postman *postman);

#endif
