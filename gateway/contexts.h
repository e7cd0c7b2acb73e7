/* The TLS contexts of all workers for one configuration, in the order of the running sockets, as
 * struct server_options wants them. A reload makes new ones while the old are in use. */
#ifndef GATEWAY_CONTEXTS_H
#define GATEWAY_CONTEXTS_H

#include "gateway/config.h"

struct contexts {
    struct server_listener listeners[LIMIT_LISTENERS]; /* by running socket */
    /* Own copies of proxy and xclient, where the configuration does not name the socket. */
    struct networks *kept[LIMIT_LISTENERS][2];
    uint32_t listener_count;
    uint32_t worker_count;
};

struct contexts_options {
    const struct config *config;         /* whose words count; with all its certificates */
    const struct config *running;        /* whose listeners the sockets were opened for */
    const struct contexts *present;      /* what the sockets have now; NULL at the start */
    const struct ticket_secret *tickets; /* copied */
    uint32_t worker_count;
    bool offload; /* there are helpers for private-key operations */
};

/* contexts_new makes them; all options are borrowed during the call. A socket that `config` knows
 * nothing of keeps what it has; and all speak no TLS when `running` has none, because there is no
 * room for it then. Listeners that are alike share contexts; workers never do. NULL: `error` has a
 * sentence. contexts_free lets go of all; connections keep what they use. NULL is allowed. */
struct contexts *contexts_new(const struct contexts_options *options, char *error,
                              size_t error_size) __attribute__((warn_unused_result));
void contexts_free(struct contexts *contexts);

#endif
