/* What the parts of the gateway share: its threads and what they stand on. */
#ifndef GATEWAY_GATEWAY_INSIDE_H
#define GATEWAY_GATEWAY_INSIDE_H

#include <pthread.h>

#include "gateway/admin/control.h"
#include "gateway/admin/http.h"
#include "gateway/admin/orders.h"
#include "gateway/contexts.h"
#include "gateway/gateway_handover.h"
#include "gateway/gateway_memory.h"

/* One worker thread with all that is its own. */
struct hand {
    struct worker worker;
    struct server server;
    struct server_setup setup;
    struct staging *staging;
    pthread_t thread;
    bool started;
    int *sockets; /* that it accepts from; owned, the descriptors are the gateway's */
    uint8_t *listener_of;
    uint32_t socket_count;
    const char *what;  /* the step that failed */
    _Atomic int ready; /* 0: not yet; 1: serves; -errno */
    _Atomic bool finished;
};

/* A listening socket. */
struct gateway_socket {
    int descriptor;
    uint8_t listener; /* its index, or one of enum socket_owner */
    bool systemd;     /* it outlives us */
    bool silent;      /* bound, but not listening yet */
};

enum socket_owner { SOCKET_HTTP = LIMIT_LISTENERS, SOCKET_AGENT = LIMIT_LISTENERS + 1 };

/* A process that has our sockets, and may take over. */
struct yield {
    int descriptor; /* of its connection; -1: none */
    pid_t pid;
    bool committed; /* it has said so */
    char line[16];
    size_t line_len;
};

struct gateway {
    const char *path;
    struct memory_contract memory; /* what may be needed at most, since the start */
    uint64_t memory_here;          /* octets that there are; 0: not known */
    struct config *initial;        /* what can't be reloaded is borrowed from here for ever */
    struct config *current;
    struct log *log;
    struct log_port *log_port;
    struct spool *spool;
    struct courier *courier;
    struct control *control; /* NULL: no control socket */
    struct health health;
    struct http *http;              /* NULL: no admin.http and no admin.agent */
    struct metrics_sources sources; /* of http */
    struct expiries *expiries;      /* of the certificates in use; NULL: no memory for it */
    struct admission *admission;
    struct trace *trace; /* live dialogues, for ringmxctl */
    struct rates *rates;
    struct greylist *greylist;
    struct attempts *attempts; /* NULL, as the next: no listener is for submission */
    struct quotas *quotas;
    struct helpers *helpers; /* NULL: no listener had TLS at the start */
    struct helpers *hashers; /* NULL, as the next: no listener is for submission, or Dovecot is */
    struct login_cache *login_cache;     /* asked; this one then is there */
    struct authenticator_options logins; /* of each worker */
    struct contexts *contexts;           /* in use */
    struct ticket_secret ticket_secret;  /* for configurations that name none */
    struct hand *hands;
    size_t hand_count;
    struct gateway_socket *sockets; /* HANDOVER_SOCKETS_MAX */
    uint32_t socket_count;
    struct inherited inherited; /* until the workers have started */
    struct orders *orders;
    uint64_t reload_asked; /* number of the reload of an order; 0: none */
    struct yield yield;
    int signals;    /* signalfd */
    int start_code; /* exit code of a start that fails */
    bool takeover;  /* from another process, if there is one */
    uint32_t later; /* enum gateway_event that came while they could not be served */
    bool stopping;  /* no reload or hand-over any more */
    bool yielding;  /* in favour of another process */
    enum scan_kind scanner;
    uint8_t uuid[16];
};

/* gateway_say logs a text as a line of its own, gateway_say_lines each line of it. */
void gateway_say(struct gateway *gateway, enum log_level level, const char *event,
                 const char *text);
void gateway_say_lines(struct gateway *gateway, enum log_level level, const char *event,
                       char *text);

/* gateway_say_warnings says what config_srs_warnings and config_submission_warnings say. */
void gateway_say_warnings(struct gateway *gateway, const struct config *config);

/* gateway_sockets_open takes inherited sockets for all addresses, binds the others, and spreads
 * them over the workers; before privileges are dropped. gateway_sockets_listen lets clients connect
 * to those of our own. False: it was logged why not. gateway_sockets_copy returns a copy, owned, of
 * a socket of the admin address, or -1. gateway_sockets_close closes those for mail, and perhaps
 * those of the admin addresses. */
bool gateway_sockets_open(struct gateway *gateway) __attribute__((warn_unused_result));
bool gateway_sockets_listen(struct gateway *gateway) __attribute__((warn_unused_result));
int gateway_sockets_copy(const struct gateway *gateway, uint8_t listener);
void gateway_sockets_close(struct gateway *gateway, bool admin);

/* gateway_sockets_refuse tells 421 to all who wait in sockets of our own, which are closed next. */
void gateway_sockets_refuse(struct gateway *gateway);

/* gateway_tls_start makes helpers, certificates that are missing, and contexts; after the listeners
 * are open: contexts belong to sockets. False: it was logged why not. */
bool gateway_tls_start(struct gateway *gateway) __attribute__((warn_unused_result));

/* gateway_logins_start makes what logging in needs, if a listener is for submission;
 * gateway_logins_stop frees it, when the workers have ended. False: it was logged why not. */
bool gateway_logins_start(struct gateway *gateway) __attribute__((warn_unused_result));
void gateway_logins_stop(struct gateway *gateway);

/* gateway_tls_contexts makes certificates that are missing, and the contexts that all workers will
 * use with `config`, which then refers to them. NULL: why not was said on `errors`. */
struct contexts *gateway_tls_contexts(struct gateway *gateway, struct config *config, FILE *errors)
    __attribute__((warn_unused_result));

/* gateway_tls_say logs a line for each certificate, and the warnings, and tells /metrics when they
 * expire; gateway_tls_say_warnings logs the warnings alone. */
void gateway_tls_say(struct gateway *gateway, const struct config *config);
void gateway_tls_say_warnings(struct gateway *gateway, const struct config *config);

/* gateway_admin_start serves admin.http and admin.agent, if they are configured, before there is
 * anything to tell; gateway_admin_sources gives the figures, when all threads run;
 * gateway_admin_stop ends it, when the courier has ended and the spool is still open. False: it was
 * logged why not. */
bool gateway_admin_start(struct gateway *gateway) __attribute__((warn_unused_result));
void gateway_admin_sources(struct gateway *gateway);

/* gateway_admin_limits shows the limits that a reload has changed, and says what memory may be
 * needed now; gateway_say_memory says so, and warns when the machine has less. */
void gateway_admin_limits(struct gateway *gateway);
void gateway_say_memory(struct gateway *gateway);

void gateway_admin_stop(struct gateway *gateway);

/* gateway_addresses returns the addresses that others reach us at by SMTP, owned: those of the
 * listeners that take mail for our domains, with 0.0.0.0 and [::] as the addresses of this machine.
 * NULL: no memory. */
union address_any *gateway_addresses(const struct config *config, uint32_t *count)
    __attribute__((warn_unused_result));

#endif
