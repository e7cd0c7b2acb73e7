/* A worker that only connects, for tests of what goes out. It runs in the test's own thread, so
 * that what happens on its connections can be asserted where it happens: what a visit does stands
 * in its `on_` functions (each may be NULL). When it has run, everything must have come home. */
#ifndef TESTS_SUPPORT_VISITOR_H
#define TESTS_SUPPORT_VISITOR_H

#include "gateway/io/worker.h"
#include "tls/tls.h"

enum { VISITOR_VISITS_MAX = 64 };

struct visitor;

/* A connection, as the test sees it: it outlives its stream. */
struct visit {
    struct visitor *visitor;
    struct stream *stream; /* NULL: gone */
    void *user;            /* of the test */
    void (*on_opened)(struct visit *visit);
    size_t (*on_received)(struct visit *visit, const uint8_t *data, size_t len); /* NULL: all */
    void (*on_writable)(struct visit *visit);
    void (*on_returned)(struct visit *visit);
    void (*on_secured)(struct visit *visit);
    void (*on_timed_out)(struct visit *visit); /* NULL: stream_abort */
    void (*on_closed)(struct visit *visit);
    uint32_t opened, returned, secured, timed_out, closed, tickets; /* how often each was called */
    uint32_t lent;                                                  /* by visit_lend */
    int error;                                                      /* of closed */
    struct tls_session *ticket; /* the newest; freed by visitor_run, unless the test took it */
    enum tls_failure failure;   /* when it was closed */
    struct tls_info info;       /* when it was secured */
    uint8_t *got;               /* what was received */
    size_t got_len, got_room;
    struct stream_loan loan;
};

struct visitor_options {
    bool baseline, spin;
    uint32_t streams_max;  /* 0: 64 */
    uint32_t blocks_max;   /* 0: two for each stream */
    uint32_t buffer_count; /* 0: 64 */
    uint32_t buffer_size;  /* 0: 4096 */
    void (*on_turn)(struct visitor *visitor);
    uint64_t (*next_us)(struct visitor *visitor);
};

struct visitor {
    struct worker worker;
    struct visitor_options options;
    struct visit visits[VISITOR_VISITS_MAX];
    uint32_t visit_count;
    uint32_t sleeps;
};

/* visitor_new makes one; owned, freed by visitor_free. */
struct visitor *visitor_new(const struct visitor_options *options);
void visitor_free(struct visitor *visitor);

/* visitor_call begins a connection to `address` (AF_INET) and returns the visit, whose functions
 * the caller then sets; NULL: no slot. */
struct visit *visitor_call(struct visitor *visitor, const union address_any *address);

/* visitor_call_at does it with a descriptor of the caller's and any address. */
struct visit *visitor_call_at(struct visitor *visitor, int descriptor,
                              const struct sockaddr *address, socklen_t len);

/* visitor_run runs until all connections are gone, and checks that everything came home and that
 * each visit heard what it must hear as often as it must. */
void visitor_run(struct visitor *visitor);

/* What a visit may do. visit_lend lends one piece, or `len` octets in `pieces` pieces. */
void visit_say(struct visit *visit, const char *text);
void visit_lend(struct visit *visit, const void *data, size_t len, uint32_t pieces);
void visit_end(struct visit *visit);
void visit_abort(struct visit *visit);
void visit_deadline(struct visit *visit, uint32_t ms);

#endif
