/* Every bound of the program, with the asserts that relate them. */
#ifndef GATEWAY_BASE_LIMITS_H
#define GATEWAY_BASE_LIMITS_H

#include <assert.h>

enum limits {
    LIMIT_WORKERS = 48,       /* threads that receive */
    LIMIT_PORTS = 64,         /* threads that write to one spool volume: workers and couriers */
    LIMIT_LISTENERS = 32,     /* addresses of all listeners together */
    LIMIT_RECIPIENTS = 10000, /* the configuration may allow this many in one transaction */

    LIMIT_BLOCK = 4096,              /* the unit that direct I/O is aligned to */
    LIMIT_PIECE = 128 * 1024,        /* message text that one BODY record carries at most */
    LIMIT_RECORD = 10 * 1024 * 1024, /* one spool record: a COMMIT with LIMIT_RECIPIENTS recipients
                                        of ~1,000 octets (forward-path, ORCPT) fits */
    LIMIT_GROUP = 256 * 1024, /* staged octets after which the producer cuts at a block boundary */

    LIMIT_LINE = 12288,  /* longest command line that is read, CR LF included (RFC 4954 4) */
    LIMIT_RECEIVED = 50, /* Received fields before it is called a loop (RFC 5321 6.3) */
};

static_assert(LIMIT_RECORD >= LIMIT_RECIPIENTS * 1040, "the largest COMMIT fits in a record");
static_assert(LIMIT_WORKERS + 8 <= LIMIT_PORTS, "couriers need ports too");

#endif
