/* Questions to the DNS, asked without waiting (RFC 1035, 2308, 5321 5.1). c-ares speaks the
 * protocol, on sockets that the worker's ring watches; this module is its only user, owns the
 * cache, and tells the three kinds of failure apart. One worker's own; nothing here blocks, and
 * nothing is shared between threads.
 *
 *   dns_ask -> (the ring) -> `answered`, exactly once, never from within dns_ask */
#ifndef GATEWAY_IO_DNS_H
#define GATEWAY_IO_DNS_H

#include "gateway/io/listener.h"

struct dns;
struct worker;

enum dns_type { DNS_A = 1, DNS_MX = 15, DNS_AAAA = 28 };

enum dns_status {
    DNS_FOUND = 0,    /* at least one record */
    DNS_NO_DATA = 1,  /* the name exists, this type does not (RFC 2308 2.2) */
    DNS_NO_NAME = 2,  /* NXDOMAIN: permanent */
    DNS_FAILED = 3,   /* SERVFAIL, REFUSED, a malformed answer: temporary */
    DNS_TIMED_OUT = 4 /* no server answered: temporary */
};

enum {
    DNS_NAME_MAX = 255,   /* octets of a name, without a final dot */
    DNS_NAME_SIZE = 256,  /* with the final NUL */
    DNS_RECORDS_MAX = 64, /* of one answer are kept */
    DNS_SERVERS_MAX = 8,
};

/* One record. Of an address, sin_port is 0. */
struct dns_record {
    uint16_t preference;       /* MX */
    char name[DNS_NAME_SIZE];  /* MX: the exchange in lower case, no final dot; "" is the root: null
                                  MX (RFC 7505). A, AAAA: empty */
    union address_any address; /* A, AAAA */
};

/* An answer. Borrowed by the callee during the call. */
struct dns_answer {
    enum dns_status status;
    uint32_t ttl_s; /* how long it holds: the least of all records, CNAMEs included; of a negative
                       one that of the SOA (RFC 2308 5), of a failure a few seconds */
    uint32_t count;
    const struct dns_record *records;
};

/* A question under way. The asker's memory; zero but for the first two, it is at rest. */
struct dns_question {
    void (*answered)(struct dns_question *question, const struct dns_answer *answer);
    void *user;
    /* The resolver's. */
    struct dns_question *next;
    struct dns_pending *pending; /* NULL: at rest */
};

struct dns_options {
    union address_any servers[DNS_SERVERS_MAX]; /* none: those of /etc/resolv.conf */
    uint32_t server_count;
    uint32_t timeout_ms;  /* of one try; 0: 2000 */
    uint32_t tries;       /* per server; 0: 2 */
    uint32_t cache_max;   /* answers kept; the one used longest ago goes first; 0: 65536 */
    uint32_t ttl_max_s;   /* no answer is kept longer; 0: a day */
    uint32_t pending_max; /* questions to servers at a time, more wait in line; 0: 1000 */
};

/* dns_new makes a resolver for `worker`, in its thread, after worker_init; both are borrowed. NULL:
 * no memory, or a broken /etc/resolv.conf. dns_free ends it: open questions are dropped without an
 * answer, and no descriptor of it is watched any more once the worker has turned. */
struct dns *dns_new(struct worker *worker, const struct dns_options *options)
    __attribute__((warn_unused_result));
void dns_free(struct dns *dns);

/* dns_ask asks for the records of one type that `name` (no final dot, any case; 1..DNS_NAME_MAX
 * octets; U-labels are turned into A-labels by the caller) has, with CNAMEs followed. What is in
 * the cache, or being asked already, is not asked again. An invalid name is DNS_NO_NAME, no memory
 * DNS_FAILED. `answered` comes in a later dns_turn. */
void dns_ask(struct dns *dns, const char *name, enum dns_type type, struct dns_question *question);

/* dns_cancel takes a question back: `answered` will not be called. Legal at rest. */
void dns_cancel(struct dns *dns, struct dns_question *question);

/* dns_turn hands out answers from the cache and lets time-outs happen; to be called in every
 * turn_end. dns_next_us: when it wants the next turn (monotonic; UINT64_MAX: no hurry), for
 * hooks.next_us. */
void dns_turn(struct dns *dns);
uint64_t dns_next_us(const struct dns *dns);

/* dns_forget empties the cache (a reload). */
void dns_forget(struct dns *dns);

struct dns_snapshot {
    uint64_t asked, hits, found, no_data, no_name, failed, timed_out; /* since the start */
    uint32_t cached, pending;                                         /* now */
};

void dns_snapshot(const struct dns *dns, struct dns_snapshot *out);

#endif
