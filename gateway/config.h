/* The configuration: text -> one immutable struct. Every word, its default and its bounds stand in
 * config.c and in docs/configuration.md. Nothing is kept between two loads, so a reload is a second
 * load and a comparison. */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdio.h>

#include "gateway/base/limits.h"
#include "gateway/base/log.h"
#include "gateway/deliver/courier.h"
#include "gateway/deliver/route.h"
#include "gateway/io/listener.h"
#include "gateway/policy/directory.h"
#include "gateway/receive/server.h"
#include "gateway/spool/spool.h"

enum config_role { CONFIG_ROLE_MX = 0 }; /* takes mail for our domains from anybody */

/* One address of a listener. */
struct config_listener {
    char *name; /* of its listener { } */
    enum config_role role;
    union address_any address;
};

/* All strings, directory and routes belong to the struct; the options of modules borrow from it.
 * Fields that no word sets (the spool's uuid and log, the courier's spool and log, CPUs to pin to)
 * are for main: zero here, CPUs -1. */
struct config {
    char *hostname;
    char *spool_path;
    uint32_t worker_count; /* 1..LIMIT_WORKERS; `workers = 0` is already the number of CPUs */

    struct server_options server;
    struct spool_options spool;
    struct courier_options courier;
    struct log_options log; /* to standard error */

    bool io_baseline; /* use nothing that is newer than Linux 6.1 */
    uint32_t io_buffer_count;
    uint32_t io_buffer_size; /* octets */

    struct config_listener listeners[LIMIT_LISTENERS];
    size_t listener_count;
    size_t domain_count;
    struct directory *directory;
    struct routes *routes;
};

/* config_load reads the file at `path` and the recipient files that it names, relative to its
 * folder. NULL when anything is wrong; all of it is then said on `errors`, a line each: `FILE:LINE:
 * MISTAKE`. Otherwise the configuration, owned. One thread at a time (libconfuse). */
struct config *config_load(const char *path, FILE *errors) __attribute__((warn_unused_result));
void config_free(struct config *config);

/* config_restart_needed writes a line to `out` for each word that differs between the two and that
 * a reload can't change, and returns how many. */
size_t config_restart_needed(const struct config *running, const struct config *loaded, FILE *out);

#endif
