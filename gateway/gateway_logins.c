/* What logging in needs beside the workers: threads of their own for password hashes, so that these
 * never stand before TLS handshakes, and what all workers know of passwords that were right. */
#include <errno.h>
#include <string.h>

#include "gateway/config_submission.h"
#include "gateway/gateway_inside.h"
#include "gateway/gateway_life.h"

bool gateway_logins_start(struct gateway *gateway)
{
    const struct config *config = gateway->initial;
    if (!config_has_submission(config)) /* else only a restart can want it */
        return true;
    gateway->login_cache = login_cache_new(LOGIN_CACHE_CELLS);
    if (gateway->login_cache == NULL) {
        gateway_say(gateway, LOG_ERROR, "start_failed", "out of memory");
        return false;
    }
    if (!config->has_dovecot)
        gateway->hashers = helpers_new(config->auth_helpers, HELPERS_LEAST);
    if (gateway->hashers == NULL && !config->has_dovecot) {
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "helper threads: %s",
                    strerror(errno));
        return false;
    }
    gateway->logins = (struct authenticator_options){
        .rules = config->server.authentication,
        .dovecot = config->has_dovecot ? &config->dovecot : NULL,
        .helpers = gateway->hashers,
        .cache = gateway->login_cache,
        .waiting_max = MEMORY_HASHES_WAITING,
        .logins_max = memory_pools(config).streams,
    };
    return true;
}

void gateway_logins_stop(struct gateway *gateway)
{
    helpers_free(gateway->hashers);
    login_cache_free(gateway->login_cache);
}
