/* Listening sockets that outlive a process: from systemd (socket activation), or from the process
 * before (zero-downtime upgrade, over the control socket). docs/operation.md, "Upgrade", has the
 * steps, and docs/control.md the words. The other side is gateway_yield.c. */
#ifndef GATEWAY_GATEWAY_HANDOVER_H
#define GATEWAY_GATEWAY_HANDOVER_H

#include <stdio.h>

#include "gateway/io/listener.h"

enum {
    HANDOVER_SOCKETS_MAX = 2048,
    HANDOVER_VERSION = 1,    /* of the words that the two processes say */
    HANDOVER_PATIENCE_S = 10 /* for each of them, but for the end of the process before */
};

struct inherited_socket {
    int descriptor; /* -1: taken */
    bool systemd;   /* it outlives us: all that wait at this address must be in this one's queue */
    uint64_t cookie;
    union address_any address;
};

/* Sockets that listen already. The zero value is none; inherit_close ends its use. */
struct inherited {
    struct inherited_socket *sockets; /* HANDOVER_SOCKETS_MAX; NULL: none */
    uint32_t count;
    bool committed;
    bool temporary;         /* why it can't be done may be over soon */
    bool reload;            /* SIGHUP came meanwhile */
    int old;                /* connection to the process before, until it has ended; 0: none */
    int old_pid;            /* its process id */
    uint32_t old_timeout_s; /* how long its clients may take to end */
};

/* inherit_from_systemd takes the descriptors that LISTEN_FDS tells of, and the variables out of the
 * environment. False: one of them can't be used; `error` has a sentence. */
bool inherit_from_systemd(struct inherited *inherited, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* inherit_from_old asks the process at this control socket for its sockets; it must have the spool
 * at `spool_path`. It goes on as before until inherit_commit. `signals` is a signalfd; one other
 * than SIGHUP ends the waiting. False: nobody is there (error empty), or it can't be done. */
bool inherit_from_old(struct inherited *inherited, const char *control_path, const char *spool_path,
                      int signals, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* inherit_commit tells the process before to stop accepting and drain, and waits until it has given
 * up its spool; false: it did not, or a signal other than SIGHUP came.
 * Should we end before, it goes on, if it still can. Nothing to do when there is none. */
bool inherit_commit(struct inherited *inherited, int signals, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* inherit_take returns a socket that listens at `address`, owned, or -1 when there is none left. */
int inherit_take(struct inherited *inherited, const union address_any *address, bool *systemd);

/* inherit_unused writes a line to `out` for each socket that nobody has taken. */
void inherit_unused(const struct inherited *inherited, FILE *out);

/* inherit_close closes what nobody took, and the connection to the process before. */
void inherit_close(struct inherited *inherited);

/* handover_notify tells systemd of our state ("READY=1"; sd_notify(3)), when it wants to know
 * (NOTIFY_SOCKET). */
void handover_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
