/* Reload: the file again, all of it checked, then everything that can change does, and the rest is
 * named. No connection is touched: sessions go on with the rules of their next command. */
#include "gateway/gateway_life.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/config_submission.h"
#include "gateway/gateway_sandbox.h"

enum { CONFIGURE_TRIES = 5000 /* milliseconds */ };

static bool wait_configured(const struct gateway *gateway, const struct server_options *options)
{
    for (size_t i = 0; i < gateway->hand_count; i++) {
        int tries = CONFIGURE_TRIES;
        while (!server_configured(&gateway->hands[i].server, options) && --tries > 0)
            usleep(1000);
        if (tries == 0)
            return false;
    }
    return true;
}

static void adopt(struct gateway *gateway, struct config *loaded, struct contexts *contexts)
{
    struct config *old = gateway->current;
    struct contexts *old_contexts = gateway->contexts;
    log_configure(gateway->log, &loaded->log);
    for (size_t i = 0; i < gateway->hand_count; i++)
        server_configure(&gateway->hands[i].server, &loaded->server);
    bool all = wait_configured(gateway, &loaded->server);
    spool_bound(gateway->spool, loaded->spool.messages_max);
    courier_configure(gateway->courier, &loaded->courier);
    if (gateway->control != NULL)
        control_configure(gateway->control, loaded->routes);
    gateway->current = loaded;
    gateway->contexts = contexts;
    gateway_admin_limits(gateway);
    /* Nobody looks at the old any more; else they stay, which only costs memory. */
    if (all && old != gateway->initial)
        config_free(old);
    if (all)
        contexts_free(old_contexts);
}

/* load reads and checks the file; *contexts are those of its listeners. NULL: `errors` says why. */
static struct config *load(struct gateway *gateway, struct contexts **contexts, FILE *errors)
{
    struct config *loaded = config_load(gateway->path, errors);
    *contexts = loaded == NULL ? NULL : gateway_tls_contexts(gateway, loaded, errors);
    if (*contexts != NULL)
        return loaded;
    config_free(loaded);
    return NULL;
}

/* say_all logs a copy, line by line: who has asked gets the text itself. */
static void say_all(struct gateway *gateway, enum log_level level, const char *event,
                    const char *text)
{
    char *copy = strdup(text);
    if (copy != NULL)
        gateway_say_lines(gateway, level, event, copy);
    free(copy);
}

int gateway_reload(struct gateway *gateway, char **text)
{
    size_t len = 0, needs = 0;
    struct contexts *contexts = NULL;
    *text = NULL;
    FILE *errors = open_memstream(text, &len);
    if (errors == NULL)
        return EX_OSERR;
    handover_notify("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reloading",
                    (unsigned long long)clock_monotonic_us());
    struct config *loaded = load(gateway, &contexts, errors);
    if (loaded == NULL)
        fputs("the old configuration stays in force\n", errors);
    else
        needs = config_restart_needed(gateway->initial, loaded, errors);
    if (loaded != NULL)
        needs += sandbox_covers(loaded, errors);
    else if (sandbox_confines() && fflush(errors) == 0 && strstr(*text, strerror(EACCES)) != NULL)
        fputs("what lies in none of the folders that were named at the start is out of reach "
              "(sandbox.landlock), and only a restart can change it\n",
              errors);
    fclose(errors);
    if (loaded == NULL) {
        say_all(gateway, LOG_ERROR, "reload_failed", *text);
    } else {
        say_all(gateway, LOG_WARN, "reload_needs_restart", *text);
        gateway_tls_say(gateway, loaded);
        gateway_say_warnings(gateway, loaded);
        config_submission_keep_users(loaded, gateway->current);
        adopt(gateway, loaded, contexts);
        gateway_say(gateway, LOG_INFO, "reloaded", gateway->path);
    }
    handover_notify("READY=1\nSTATUS=%s",
                    loaded != NULL ? "Serving" : "Serving; the last reload was refused");
    return loaded == NULL ? EX_CONFIG : needs > 0 ? EX_TEMPFAIL : 0;
}
