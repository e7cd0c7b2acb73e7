/* Next hops that exist only in memory, with a clock of the test's own, for tests of destination
 * alone. Their addresses are found in fake_exchange.h, connections to them are in fake_client.h. */
#ifndef TESTS_SUPPORT_FAKE_HOP_H
#define TESTS_SUPPORT_FAKE_HOP_H

#include "gateway/deliver/exchange.h"

enum { HOPS_MAX = 2100, HOP_HOSTS_MAX = 4 };

enum host_mode {
    HOST_UP = 0,
    HOST_REFUSES = 1,  /* no connection */
    HOST_MUTE = 2,     /* the connection is never made, until time is out */
    HOST_554 = 3,      /* greets so */
    HOST_NO_TLS = 4,   /* the handshake fails, every time */
    HOST_CLOSES = 5,   /* greets, takes EHLO, closes */
    HOST_BREAKS = 6,   /* in each delivery */
    HOST_BUSY = 7,     /* 4xx to each delivery */
    HOST_NOT_EVEN = 8, /* client_open fails: EAFNOSUPPORT */
    HOST_SLOW = 9,     /* takes a hundred times as long */
    HOST_HANGS = 10,   /* greets, and never answers a delivery */
    HOST_MODES = 11,
};

/* One next hop, and what has come to it. */
struct hop {
    uint8_t dns;   /* enum verdict_kind; OPEN: hosts are found */
    bool dns_slow; /* the answer comes with fake_answer */
    uint32_t host_count;
    enum host_mode modes[HOP_HOSTS_MAX];
    uint32_t weights[HOP_HOSTS_MAX];
    uint32_t greets_max;  /* connections at a time; 0: any number. More are refused with 421 */
    uint64_t delivery_us; /* one delivery takes so long */
    uint32_t takes_max;   /* deliveries on a connection, then 421; 0: any number */
    bool leaves;          /* it closes then, and says nothing */
    uint64_t rest_us;     /* it closes what is idle for so long, which is heard rest_us / 4 later */
    bool shows;           /* a look tells of that at once */
    uint32_t stale;       /* deliveries that came to a connection which it had given up */
    uint32_t now[HOP_HOSTS_MAX], opened[HOP_HOSTS_MAX], received[HOP_HOSTS_MAX];
    uint32_t most, total; /* connections at a time: ever, now */
    uint32_t busy, asked, forgotten;
    struct exchange *open; /* was asked, and has not answered */
};

static struct hop fake_hops[HOPS_MAX];
static uint64_t fake_now_us;

#endif
