/* What the parts of the gateway share: its threads and what they stand on. */
#ifndef GATEWAY_GATEWAY_INSIDE_H
#define GATEWAY_GATEWAY_INSIDE_H

#include <pthread.h>

#include "gateway/admin/control.h"
#include "gateway/contexts.h"

/* One worker thread with all that is its own. */
struct hand {
    struct worker worker;
    struct server server;
    struct server_setup setup;
    struct staging *staging;
    pthread_t thread;
    bool started;
    int listeners[LIMIT_LISTENERS];
    const char *what;  /* the step that failed */
    _Atomic int ready; /* 0: not yet; 1: serves; -errno */
    _Atomic bool finished;
};

struct gateway {
    const char *path;
    struct config *initial; /* what can't be reloaded is borrowed from here for ever */
    struct config *current;
    struct log *log;
    struct log_port *log_port;
    struct spool *spool;
    struct courier *courier;
    struct control *control; /* NULL: no control socket */
    struct admission *admission;
    struct helpers *helpers;            /* NULL: no listener had TLS at the start */
    struct contexts *contexts;          /* in use */
    struct ticket_secret ticket_secret; /* for configurations that name none */
    struct hand *hands;
    size_t hand_count;
    enum scan_kind scanner;
    uint8_t uuid[16];
};

/* gateway_say logs a text as a line of its own, gateway_say_lines each line of it. */
void gateway_say(struct gateway *gateway, enum log_level level, const char *event,
                 const char *text);
void gateway_say_lines(struct gateway *gateway, enum log_level level, const char *event,
                       char *text);

/* gateway_tls_start makes helpers, certificates that are missing, and contexts; after the listeners
 * are open: contexts belong to sockets. False: it was logged why not. */
bool gateway_tls_start(struct gateway *gateway) __attribute__((warn_unused_result));

/* gateway_tls_contexts makes certificates that are missing, and the contexts that all workers will
 * use with `config`, which then refers to them. NULL: why not was said on `errors`. */
struct contexts *gateway_tls_contexts(struct gateway *gateway, struct config *config, FILE *errors)
    __attribute__((warn_unused_result));

/* gateway_tls_say logs a line for each certificate, and the warnings; gateway_tls_say_warnings the
 * warnings alone. */
void gateway_tls_say(struct gateway *gateway, const struct config *config);
void gateway_tls_say_warnings(struct gateway *gateway, const struct config *config);

/* gateway_addresses returns the addresses that others reach us at by SMTP, owned: those of the
 * listeners that take mail for our domains, with 0.0.0.0 and [::] as the addresses of this machine.
 * NULL: no memory. */
union address_any *gateway_addresses(const struct config *config, uint32_t *count)
    __attribute__((warn_unused_result));

#endif
