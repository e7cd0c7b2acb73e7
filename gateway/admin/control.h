/* The control socket: how ringmxctl and scripts look at the queue and act on it, while the gateway
 * runs. A thread of its own, several clients at a time, none of which can hold up another or the
 * courier; answers of any length in bounded memory. docs/control.md has the protocol. */
#ifndef GATEWAY_ADMIN_CONTROL_H
#define GATEWAY_ADMIN_CONTROL_H

#include "gateway/admin/orders.h"
#include "gateway/deliver/courier.h"

struct control_options {
    const char *path;            /* of the unix socket; copied */
    struct courier *courier;     /* borrowed, like those below */
    struct spool *spool;         /* envelopes are read from it */
    const struct routes *routes; /* until control_configure gives others */
    struct log *log;
    struct orders *orders; /* what main is asked to do; NULL: it can't be */
    struct trace *trace;   /* for those who watch dialogues; NULL: nobody can */
};

struct control;

/* control_start makes the socket (mode 0660) and starts the thread; after courier_start. A socket
 * that a dead process has left is replaced, one that somebody answers at is not. NULL: `error` has
 * a sentence. */
struct control *control_start(const struct control_options *options, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* control_configure gives new routes; nobody looks at the old ones when it returns. */
void control_configure(struct control *control, const struct routes *routes);

/* control_stop hangs up and removes the socket; before courier_stop. NULL is allowed. */
void control_stop(struct control *control);

#endif
