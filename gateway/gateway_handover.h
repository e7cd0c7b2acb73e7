/* Listening sockets that outlive a process: from systemd (socket activation), or from the process
 * before (zero-downtime upgrade, over the control socket). docs/operation.md, "Upgrade", has the
 * steps. */
#ifndef GATEWAY_GATEWAY_HANDOVER_H
#define GATEWAY_GATEWAY_HANDOVER_H

#include "gateway/io/listener.h"

enum { HANDOVER_SOCKETS_MAX = 2048 };

/* Sockets that listen already, by the address that they are bound to. */
struct inherited {
    uint32_t count;
    int descriptors[HANDOVER_SOCKETS_MAX]; /* -1: taken */
    union address_any addresses[HANDOVER_SOCKETS_MAX];
    int old;      /* connection to the process before, until it has ended; -1: none */
    bool systemd; /* some are of systemd: they must never be shut down */
};

/* inherit_from_systemd takes the descriptors that LISTEN_FDS tells of, and the variables out of the
 * environment. False: one of them is no listening stream socket; `error` has a sentence. */
bool inherit_from_systemd(struct inherited *inherited, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* inherit_from_old asks the process at this control socket for its sockets. It goes on as before
 * until inherit_commit. False: nobody is there (error empty), or it can't be done. */
bool inherit_from_old(struct inherited *inherited, const char *control_path, char *error,
                      size_t error_size) __attribute__((warn_unused_result));

/* inherit_commit tells the process before to stop accepting and drain, and waits until it has given
 * up its spool and ended; false: it did not within `timeout_s`. Should we end before, it goes on.
 */
bool inherit_commit(struct inherited *inherited, uint32_t timeout_s, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* inherit_take returns a socket that listens at `address`, owned, or -1. */
int inherit_take(struct inherited *inherited, const union address_any *address);

/* inherit_close closes what nobody took. */
void inherit_close(struct inherited *inherited);

/* notify tells systemd of our state ("READY=1"), when it wants to know (NOTIFY_SOCKET). */
void handover_notify(const char *state);

#endif
