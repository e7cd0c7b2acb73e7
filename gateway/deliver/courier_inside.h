/* The courier's inside, shared by its files: courier.c (what other threads call), the turn of its
 * thread in courier_turn.c, times that messages have in courier_times.c, and what ringmxctl asks
 * for in courier_queue.c. */
#ifndef GATEWAY_DELIVER_COURIER_INSIDE_H
#define GATEWAY_DELIVER_COURIER_INSIDE_H

#include "gateway/base/bell.h"
#include "gateway/base/counter.h"
#include "gateway/deliver/callahead.h"
#include "gateway/deliver/compaction.h"
#include "gateway/deliver/courier.h"
#include "gateway/deliver/deadlines.h"
#include "gateway/deliver/passage.h"
#include "gateway/deliver/patience.h"
#include "gateway/deliver/sorter.h"
#include "tls/context.h"

#include <pthread.h>

enum {
    COURIER_ARRIVALS = 512, /* taken over at a time */
    COURIER_HOSTNAME_SIZE = 256,
};

enum courier_stage {
    COURIER_RUNNING = 0,
    COURIER_DRAINING = 1, /* nothing new is begun */
    COURIER_WRITING = 2,  /* nothing is under way; outcomes go to disk */
    COURIER_ENDED = 3,
};

/* What another thread wants done in the courier's, and waits for. */
struct errand {
    struct post post; /* first */
    void (*run)(struct courier *courier, struct errand *errand);
    struct bell done; /* rung when it is done */
    bool refused;     /* it was not: the ring broke */
};

struct courier {
    struct courier_options options;
    char hostname[COURIER_HOSTNAME_SIZE];
    char *ca;
    union address_any *ours;
    uint32_t our_count;
    struct log_port *log;
    struct spool *spool;
    struct staging *staging;
    struct queue *queue;
    struct reasons *reasons;
    uint16_t operator_reason;
    struct ledger *ledger;
    struct notify *notify;
    struct consigns *consigns;
    struct outcome *outcome;
    struct compaction compaction;
    struct deadlines deadlines;
    struct hop hop;
    pthread_t thread;
    bool running;

    /* The thread's own. */
    struct worker worker;
    struct courier_rules rules;
    struct helpers *helpers;
    struct dns *dns;
    struct exchange_setup exchange;
    struct client_setup client;
    struct destinations *destinations;
    struct store *store;
    struct sorter *sorter;
    struct passages *passages;
    struct callaheads *callaheads;
    struct line stores;   /* what waits for the store */
    bool discard_only;    /* every table of routes since the start had nothing else */
    bool all_arrived;     /* nothing was left behind at the last look */
    uint64_t settled;     /* of the port, as last seen */
    uint64_t look_us;     /* when arrivals and settled outcomes were last looked at */
    uint64_t deadline_us; /* of the stage */
    uint64_t doubt_us;    /* when texts without a reply were last counted */
    uint64_t random;      /* state */
    enum courier_stage stage;
    const struct courier_options *options_next; /* NULL: no reload is wanted */
    struct errand *options_errand;
    struct spool_message arrivals[COURIER_ARRIVALS];

    /* Between threads. */
    struct bell started; /* rung by the thread */
    int start_error;     /* then set */
    const char *start_what;
    atomic_bool arrived;  /* the writer has put something there since the last look */
    atomic_bool asleep;   /* and must wake us if so */
    atomic_bool stopping; /* no errand may come any more */
    atomic_bool broken;   /* its ring broke: nothing of it can be freed */
    bool left; /* a helper hangs and was left behind: nothing can be freed; so is `broken` */
    _Atomic uint32_t errands;
    struct courier_snapshot now; /* the thread's; shown to others as `shown`, a word at a time */
    _Atomic uint64_t shown[sizeof(struct courier_snapshot) / sizeof(uint64_t)];
};

/* courier_run is the thread. */
void *courier_run(void *courier);

/* courier_errand sends an errand and waits for its end. False: the courier is stopping. */
bool courier_errand(struct courier *courier, struct errand *errand);

/* courier_use_options takes new rules over; with `errand`, which ends when it is done. */
void courier_use_options(struct courier *courier, const struct courier_options *options,
                         struct errand *errand);

/* courier_meet_deadlines deals with messages whose time is over, a bounded number.
 * courier_deadline_us: when the next one is, on our clock. */
void courier_meet_deadlines(struct courier *courier);
uint64_t courier_deadline_us(const struct courier *courier);
bool courier_deadline_lives(void *courier, const struct deadline *deadline);

/* courier_begin_stop begins to stop. */
void courier_begin_stop(struct courier *courier, struct errand *errand);

#endif
