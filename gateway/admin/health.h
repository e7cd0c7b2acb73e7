/* How the gateway is: one page that everybody may read, from which come /healthz, /readyz, the
 * agent-check of HAProxy and the greeting of the SMTP listeners. docs/operation.md has the table.
 */
#ifndef GATEWAY_ADMIN_HEALTH_H
#define GATEWAY_ADMIN_HEALTH_H

#include "gateway/spool/spool.h"

#include <stdatomic.h>

enum health_phase {
    HEALTH_STARTING = 0, /* recovery, or waiting for the process before */
    HEALTH_SERVING = 1,
    HEALTH_NOTICE = 2,   /* it will drain soon: balancers shall look elsewhere */
    HEALTH_DRAINING = 3, /* nothing new is taken */
};

enum health_trouble {
    HEALTH_READY = 0,
    HEALTH_NOT_YET = 1,
    HEALTH_DRAIN = 2,
    HEALTH_DISK_FULL = 3,
    HEALTH_SYNC_ERRORS = 4,
    HEALTH_QUEUE_FULL = 5,
    HEALTH_COURIER_BROKEN = 6,
    HEALTH_TROUBLES,
};

struct health {
    _Atomic int phase;                   /* enum health_phase; main's */
    _Atomic bool courier_broken;         /* main's */
    _Atomic(const struct spool *) spool; /* NULL: not yet */
};

/* health_trouble tells why mail should go elsewhere; HEALTH_READY: it should not. Any thread, any
 * time. */
enum health_trouble health_trouble(const struct health *health);

/* health_text is a sentence, health_word a word in small letters; constants. */
const char *health_text(enum health_trouble trouble);
const char *health_word(enum health_trouble trouble);

#endif
