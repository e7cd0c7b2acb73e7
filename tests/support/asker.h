/* A resolver with its worker, in the test's own thread, and a server that it asks
 * (tests/support/name_server). Questions are asked, and what they are told is kept. */
#ifndef TESTS_SUPPORT_ASKER_H
#define TESTS_SUPPORT_ASKER_H

#include "gateway/io/dns.h"
#include "tests/support/name_server.h"
#include "tests/support/turner.h"

enum { ASKS_MAX = 1500 };

/* A question of the test, and what it was told. */
struct ask {
    struct dns_question question; /* first: what `answered` is given */
    uint32_t told;                /* how often */
    uint32_t order;               /* among all */
    enum dns_status status;
    uint32_t ttl_s, count;
    struct dns_record records[4]; /* the first ones */
    void (*then)(struct ask *ask);
};

struct asker {
    struct name_server server;
    struct turner *turner;
    struct dns *dns;
    struct ask asks[ASKS_MAX];
    uint32_t ask_count;
    uint32_t told; /* of all */
    bool asking;   /* inside dns_ask */
};

extern struct asker asker;

/* What several tests ask for; see its lines. */
extern const char *const asker_plain[];

/* asker_begin starts a server, and a resolver that asks it, unless the options name others; their
 * time-out is a second unless they say so. asker_end ends both, and checks that nothing is left. */
void asker_begin(const char *const *lines, struct dns_options options);
void asker_end(void);

/* asker_serve lets a worker's turns be the resolver's; asker_begin has called it. */
void asker_serve(struct turner *turner);

/* ask asks; run_all turns until all was told; ask_now does both. wait_ms only turns. */
struct ask *ask(const char *name, enum dns_type type);
struct ask *ask_now(const char *name, enum dns_type type);
void run_all(void);
void wait_ms(uint32_t ms);

/* ask_is asserts what one was told; a second may have passed since. ask_v4 is a record's address.
 * asker_counts returns the snapshot, asker_heard how many questions the server had over UDP. */
void ask_is(const struct ask *asked, enum dns_status status, uint32_t ttl_s, uint32_t count);
uint32_t ask_v4(const struct dns_record *record);
struct dns_snapshot asker_counts(void);
uint32_t asker_heard(void);

#endif
