/* Logging in by Dovecot: each message of the mechanism is passed on, Dovecot decides. A password
 * that was right a short while ago is not asked for again, if it comes from the same address to the
 * same one: Dovecot may have rules about both. */

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/base/log.h"
#include "gateway/policy/authenticator_inside.h"
#include "parser/base64.h"
#include "tls/crypto.h"

/* dovecot_name: as Dovecot knows it. LOGIN is PLAIN by now. Channel binding is none of its
 * protocol's. NULL: it can't be passed on. */
static const char *dovecot_name(enum sasl_mechanism mechanism)
{
    switch (mechanism) {
    case SASL_LOGIN: return sasl_mechanism_name(SASL_PLAIN);
    case SASL_PLAIN:
    case SASL_SCRAM_SHA_256:
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2: return sasl_mechanism_name(mechanism);
    default: return NULL;
    }
}

uint32_t authenticator_dovecot_mechanisms(const struct authenticator *authenticator)
{
    uint32_t mechanisms = 0;
    for (enum sasl_mechanism i = SASL_PLAIN; i < SASL_MECHANISM_COUNT; i++) {
        const char *name = dovecot_name(i);
        if (name != NULL && dovecot_mechanism(authenticator->dovecot, name))
            mechanisms |= 1u << i;
    }
    return mechanisms;
}

static void unavailable(struct login *login)
{
    login->view.challenge = bytes_make(NULL, 0);
    login_step(login, LOGIN_UNAVAILABLE);
}

/* --- what was right a short while ago --- */

/* add_address writes an address, without its port, to `out` of 17 octets. */
static size_t add_address(const union address_any *address, uint8_t *out)
{
    bool v6 = address->any.sa_family == AF_INET6;
    out[0] = v6;
    if (v6)
        memcpy(out + 1, &address->v6.sin6_addr, sizeof(address->v6.sin6_addr));
    else
        memcpy(out + 1, &address->v4.sin_addr, sizeof(address->v4.sin_addr));
    return v6 ? 1 + sizeof(address->v6.sin6_addr) : 1 + sizeof(address->v4.sin_addr);
}

/* is_cached tells whether this login was right, and notes its key if not. Whoever wants to act for
 * another is Dovecot's to judge each time. */
static bool is_cached(struct login *login, struct bytes message)
{
    struct authenticator *authenticator = login->authenticator;
    const struct login_cache *cache = authenticator->options.cache;
    struct sasl_plain said;
    uint8_t proof[34];
    if (login->setup.mechanism != SASL_PLAIN && login->setup.mechanism != SASL_LOGIN)
        return false;
    if (cache == NULL || authenticator->rules == NULL || authenticator->rules->cache_s == 0 ||
        !sasl_plain_parse(message, &said) || said.authorization.len > 0)
        return false;
    size_t len = add_address(&login->peer, proof);
    len += add_address(&login->local, proof + len);
    login->cache_key = login_cache_key(cache, said.user, said.password, bytes_make(proof, len));
    if (!login_cache_has(cache, login->cache_key, authenticator->worker->now_us / 1000000))
        return false;
    counter_add(&authenticator->cached, 1);
    return true;
}

/* keep: only where Dovecot writes the name as the client does, for the cache knows no names. */
static void keep(struct login *login, struct bytes name)
{
    struct authenticator *authenticator = login->authenticator;
    const struct authenticator_rules *rules = authenticator->rules;
    if (login->cache_key == 0 || rules == NULL || rules->cache_s == 0 ||
        !bytes_equal(name, bytes_make(login->name, login->name_len)))
        return;
    login_cache_put(authenticator->options.cache, login->cache_key,
                    authenticator->worker->now_us / 1000000 + rules->cache_s);
}

/* --- the exchange --- */

/* take_text decodes what Dovecot says to the client. False: it is no base64, or too long. */
static bool take_text(struct login *login, const struct dovecot_answer *answer)
{
    size_t len = 0;
    login->view.challenge = bytes_make(NULL, 0);
    if (answer->text_len == 0)
        return true;
    if (answer->text_len / 4 * 3 > sizeof(login->message) ||
        !base64_decode(bytes_make(answer->text, answer->text_len), (uint8_t *)login->message, &len))
        return false;
    login->view.challenge = bytes_make(login->message, len);
    return true;
}

static void answered(void *user, uint32_t request, const struct dovecot_answer *answer)
{
    struct login *login = user;
    CHECK(!login->ended && (login->dovecot_request == request));
    struct bytes name = bytes_make(answer->user, answer->user_len);
    if (answer->status != DOVECOT_CONTINUE)
        login->dovecot_request = 0;
    switch (answer->status) {
    case DOVECOT_CONTINUE:
        if (take_text(login, answer))
            login_step(login, LOGIN_CHALLENGE);
        else
            unavailable(login); /* login_end cancels it */
        return;
    case DOVECOT_OK:
        if (!take_text(login, answer)) {
            unavailable(login);
            return;
        }
        keep(login, name);
        login_name(login, name);
        login_step(login, LOGIN_PASSED);
        return;
    case DOVECOT_FAIL:
        if (name.len > 0) /* a token's, which only Dovecot can read; or what it makes of a name */
            login_name(login, name);
        login->view.password_seen = true;
        login->view.challenge = bytes_make(NULL, 0);
        login_step(login, LOGIN_REFUSED);
        return;
    case DOVECOT_TEMPORARY:
    case DOVECOT_AWAY: unavailable(login); return;
    }
}

void login_dovecot_begin(struct login *login, struct bytes message)
{
    char text[LIMIT_LINE];
    const char *mechanism = dovecot_name(login->setup.mechanism);
    if (is_cached(login, message)) {
        login_step(login, LOGIN_PASSED);
        return;
    }
    if (mechanism != NULL && base64_encoded_len(message.len) <= sizeof(text)) {
        /* In clear AUTH is for loopback alone, which is secure as Dovecot means it. */
        const struct dovecot_request request = {
            .mechanism = mechanism,
            .secured = true,
            .peer = &login->peer,
            .local = &login->local,
            .response = text,
            .response_len = base64_encode(message, text),
        };
        login->dovecot_request =
            dovecot_ask(login->authenticator->dovecot, &request, answered, login);
        crypto_wipe(text, request.response_len);
    }
    if (login->dovecot_request == 0)
        unavailable(login);
}

void login_dovecot_respond(struct login *login, struct bytes response)
{
    char text[LIMIT_LINE];
    bool sent = false;
    if (login->authenticator->rules != NULL && base64_encoded_len(response.len) <= sizeof(text)) {
        size_t len = base64_encode(response, text);
        sent = dovecot_continue(login->authenticator->dovecot, login->dovecot_request, text, len);
        crypto_wipe(text, len);
    }
    if (!sent)
        unavailable(login);
}

void login_dovecot_end(struct login *login)
{
    if (login->dovecot_request != 0)
        dovecot_cancel(login->authenticator->dovecot, login->dovecot_request);
    login->dovecot_request = 0;
}

/* --- the turn --- */

static void log_state(struct authenticator *authenticator, enum log_level level, const char *state)
{
    if (authenticator->log == NULL)
        return;
    const char *why = dovecot_why(authenticator->dovecot);
    struct log_line line = log_begin(authenticator->log, level, "dovecot");
    log_string(&line, "state", state);
    if (why[0] != '\0')
        log_string(&line, "reason", why);
    log_end(&line);
}

void authenticator_dovecot_turn(struct authenticator *authenticator)
{
    struct dovecot_snapshot now;
    dovecot_turn(authenticator->dovecot);
    dovecot_snapshot(authenticator->dovecot, &now);
    if (now.connected && authenticator->dovecot_seen != DOVECOT_SEEN_CONNECTED) {
        log_state(authenticator, LOG_INFO, "connected");
        authenticator->dovecot_seen = DOVECOT_SEEN_CONNECTED;
    } else if (!now.connected && authenticator->dovecot_seen != DOVECOT_SEEN_AWAY &&
               now.failures > 0) {
        log_state(authenticator, LOG_WARN, "away");
        authenticator->dovecot_seen = DOVECOT_SEEN_AWAY;
    }
}
