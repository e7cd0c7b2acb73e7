/* The configuration: text -> one immutable struct. Every word, its default and its bounds stand in
 * config_words.c and in docs/configuration.md. Nothing is kept between two loads, so a reload is a
 * second load and a comparison. */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdio.h>

#include "gateway/base/limits.h"
#include "gateway/base/log.h"
#include "gateway/config_paths.h"
#include "gateway/deliver/courier.h"
#include "gateway/deliver/route.h"
#include "gateway/io/listener.h"
#include "gateway/policy/authenticator.h"
#include "gateway/policy/directory.h"
#include "gateway/policy/networks.h"
#include "gateway/policy/srs.h"
#include "gateway/receive/server.h"
#include "gateway/receive/submission.h"
#include "gateway/spool/spool.h"
#include "tls/certificate.h"
#include "tls/context.h"
#include "tls/ticket.h"

enum config_role {
    CONFIG_ROLE_MX = 0,         /* takes mail for our domains from anybody */
    CONFIG_ROLE_SUBMISSION = 1, /* takes mail for everywhere from users who have logged in */
};

/* One address of a listener. */
struct config_listener {
    char *name; /* of its listener { } */
    enum config_role role;
    union address_any address;
    enum server_tls tls;
    enum tls_version tls_min;
    char *client_ca;                  /* file; NULL: clients are not asked for a certificate */
    bool auth_clear;                  /* auth = plaintext */
    int line;                         /* of its section */
    int tls_line;                     /* where what is wrong with its TLS is to be mended */
    struct networks *proxy, *xclient; /* NULL: none; shared by all addresses of a listener { } */
    bool owns_networks;               /* the first of them frees these two */
};

/* A section certificate { }. */
struct config_certificate {
    char *label;
    char *chain, *key; /* files */
    int line;
    bool self_signed; /* config_certificates_make makes the files when both are missing */
    bool made;        /* and so it has */
    struct certificate *certificate; /* a reference; NULL: the files are still to be made */
};

/* All strings, directory, routes, SRS and certificates belong to the struct; the options of modules
 * borrow from it. Fields that no word sets (the spool's uuid and log, the courier's log and own
 * addresses, the server's listeners, CPUs to pin to) are for main: zero here, CPUs -1. */
struct config {
    char *hostname;
    char *spool_path;
    uint32_t worker_count; /* 1..LIMIT_WORKERS; `workers = 0` is already the number of CPUs */

    struct server_options server;
    struct spool_options spool;
    struct courier_options courier;
    struct log_options log;

    char *user, *group;            /* to become; NULL: stay */
    bool seccomp, landlock;        /* use what the kernel has */
    uint32_t drain_notice_s;       /* between "go elsewhere" and the end of listening */
    uint32_t drain_timeout_s;      /* what is in flight may take so long then */
    uint32_t handover_timeout_s;   /* and so long when another process waits for the spool */
    union address_any http, agent; /* of admin { }; family AF_UNSPEC: none */
    struct networks *exempt;       /* limits.exempt; NULL: nobody */
    bool has_redis;
    struct shared_options sharing; /* its strings are those below */
    char *redis_path, *redis_password, *redis_user, *redis_prefix;

    struct submission_rules submission; /* its parts are those below */
    struct authenticator_rules authentication;
    struct dovecot_options dovecot;
    bool has_dovecot;
    struct users *users;     /* NULL: none, or Dovecot has them */
    struct senders *senders; /* always there */
    struct dkim_keys *dkim;  /* NULL: no section */
    char *dovecot_path, *auth_domain;
    char *users_path;               /* of `users` */
    bool submission_words;          /* submission { } has some, or there is a sender */
    char *sender_unknown;           /* a sender who is not in `users`; NULL: none */
    struct config_paths dkim_paths; /* of the keys of `dkim` */
    uint32_t auth_helpers;          /* threads that hash passwords */

    struct config_paths paths; /* all files that were named */

    bool io_baseline; /* use nothing that is newer than Linux 6.1 */
    uint32_t io_buffer_count;
    uint32_t io_buffer_size; /* octets */

    struct config_listener listeners[LIMIT_LISTENERS];
    size_t listener_count;
    size_t domain_count;
    struct directory *directory;
    struct routes *routes;
    struct srs *srs;    /* NULL: forwarded mail keeps its reverse-path */
    char *srs_secret;   /* file; NULL like srs */
    char *ca_path;      /* of deliver.ca; NULL: the system's */
    char *control_path; /* of the control socket; NULL: none */

    struct config_certificate *certificates;
    size_t certificate_count;
    char *ticket_path;                  /* of the secret; NULL: the caller thinks of a random one */
    struct ticket_secret ticket_secret; /* when ticket_path is not NULL */
    uint32_t ticket_lifetime_s;
    uint32_t tls_helpers; /* threads; 0: workers do all themselves */

    uint32_t resolver_timeout_s;

    uint32_t through_patience_s; /* how long a next hop may keep a client waiting */
    uint64_t through_memory;     /* octets of each worker for messages on their way through */
};

/* config_load reads the file at `path` and the files of recipients, certificates and secrets that
 * it names, relative to its folder. NULL when anything is wrong; all of it is then said on
 * `errors`, a line each: `FILE:LINE: MISTAKE`. Otherwise the configuration, owned. One thread at a
 * time (libconfuse). */
struct config *config_load(const char *path, FILE *errors) __attribute__((warn_unused_result));
void config_free(struct config *config);

/* config_certificates_make makes the self-signed certificates whose files config_load did not find,
 * and loads them. False: what is wrong was said on `errors` as config_load says it. */
bool config_certificates_make(struct config *config, const char *path, FILE *errors)
    __attribute__((warn_unused_result));

/* config_has_submission: has any listener that role? */
bool config_has_submission(const struct config *config);

/* config_has_tls: does any listener speak TLS? config_tls_alike: can these two share contexts? */
bool config_has_tls(const struct config *config);
bool config_tls_alike(const struct config_listener *a, const struct config_listener *b);

/* config_tls_context makes a context for `listener`, with all certificates; `tickets` may be NULL.
 * NULL: `error` has a sentence. */
struct tls_context *config_tls_context(const struct config *config,
                                       const struct config_listener *listener,
                                       const struct ticket_secret *tickets, bool offload,
                                       char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* config_listener_find returns the listener of `config` that a running one's socket belongs to, or
 * NULL: the one with its address; port 0, which the kernel has chosen since, needs its name, too.
 */
const struct config_listener *config_listener_find(const struct config *config,
                                                   const struct config_listener *running);

/* config_restart_needed writes a line to `out` for each word that differs between the two and that
 * a reload can't change, and returns how many. */
size_t config_restart_needed(const struct config *running, const struct config *loaded, FILE *out);

#endif
