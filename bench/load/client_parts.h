/* What the parts of a client share: client.c (the run), place.c, connection.c, dialogue.c,
 * transaction.c. One thread. */
#ifndef BENCH_LOAD_CLIENT_PARTS_H
#define BENCH_LOAD_CLIENT_PARTS_H

#include "bench/load/acked.h"
#include "bench/load/backlog.h"
#include "bench/load/client.h"
#include "bench/load/meter.h"
#include "gateway/base/list.h"

#include <time.h>

enum client_stage {
    CLIENT_OPENING = 0, /* connections come, and wait for client_begin */
    CLIENT_RUNNING,
    CLIENT_DRAINING, /* the measured time is over; what is under way is finished */
    CLIENT_OVER,
};

struct client {
    struct client_task task;
    const struct load_options *options; /* of the task */
    struct client_state state;
    _Atomic bool stop; /* client_stop was called */
    enum client_stage stage;
    struct worker worker;
    struct tls_context *tls_context;
    struct tls_session *tls_session; /* the newest ticket, or NULL */

    struct place *places;
    uint32_t place_count;
    struct list waiting;  /* places to be opened, as soon as may be */
    struct list retrying; /* later, in the order of their retry_ns */
    struct list spare;    /* open loop of connections: no arrival has taken them */
    struct list ready;    /* connections without a message */
    struct list holding;  /* connections that only hold */
    uint32_t opening, opening_max;
    uint32_t open;             /* connections whose stream has not ended */
    uint32_t busy;             /* messages under way, without slow ones */
    uint32_t taken;            /* places that arrivals have taken */
    uint32_t alive;            /* places that are open or will be */
    uint32_t senders_alive;    /* of them those that send, in earnest */
    uint32_t to_come, arrived; /* connections that should be there at the start, and that are */

    struct schedule schedule;
    struct backlog backlog;
    uint64_t connects;  /* connections begun */
    uint64_t scheduled; /* arrivals taken from the schedule */
    uint64_t begun;     /* messages, without slow ones and those that are tried again */
    uint64_t over;      /* of them those that are answered or lost */
    uint64_t numbered;  /* messages: each has an id of its own */
    uint64_t chance;    /* state of schedule_random */

    uint64_t progress_ns;   /* when something last moved */
    uint64_t drain_ends_ns; /* in CLIENT_DRAINING */
    uint64_t turn_ns;       /* when the last turn ended */
    bool active;            /* this turn had something to do */
    struct meter meter;
    struct acked acked;
};

static inline uint64_t client_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* client_excuse says whether one more failure may be shown in full: the program shows ten. */
bool client_excuse(void);

/* client_fail ends the run: it can't go on. Shows `message`. */
void client_fail(struct client *client, int error, const char *message);

#endif
