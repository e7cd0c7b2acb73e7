/* Logging in by the users file. A password is compared on a helper thread, with copies of what the
 * comparison needs: a reload may replace the users meanwhile. A name that nobody has costs as much
 * as one of the others. SCRAM is cheap, and done here. */
#include "gateway/base/check.h"
#include "gateway/policy/authenticator_inside.h"
#include "tls/crypto.h"

uint32_t authenticator_file_mechanisms(const struct authenticator *authenticator, bool secure)
{
    uint32_t mechanisms = 1u << SASL_PLAIN | 1u << SASL_LOGIN;
    if (users_scram(authenticator->rules->users))
        mechanisms |= 1u << SASL_SCRAM_SHA_256 | (secure ? 1u << SASL_SCRAM_SHA_256_PLUS : 0);
    return mechanisms;
}

static const struct user *find(const struct login *login, struct bytes name)
{
    const struct authenticator_rules *rules = login->authenticator->rules;
    return rules == NULL ? NULL : users_find(rules->users, name, rules->domain);
}

static void refuse(struct login *login)
{
    login->view.password_seen = true;
    login->view.challenge = bytes_make(NULL, 0);
    login_step(login, LOGIN_REFUSED);
}

/* passed: the user's name becomes that of the file. */
static void passed(struct login *login, const struct user *user, struct bytes last)
{
    login_name(login, user->name);
    login->view.challenge = last;
    login_step(login, LOGIN_PASSED);
}

/* --- passwords --- */

static void compare(struct helper_job *job)
{
    struct login *login = (struct login *)(void *)job;
    if (atomic_load(&login->ended)) /* those who have gone hold nobody up */
        return;
    login->compared = true;
    login->matched =
        password_matches(login->scheme, bytes_make(login->hash, login->hash_len),
                         bytes_make(login->password, login->password_len), &login->failed);
    crypto_wipe(login->password, sizeof(login->password));
}

/* conclude: was it right, and is it still so? */
static void conclude(struct login *login)
{
    const struct authenticator *authenticator = login->authenticator;
    const struct user *user = find(login, bytes_make(login->name, login->name_len));
    bool same = user != NULL && user->scheme == login->scheme &&
                bytes_equal(user->hash, bytes_make(login->hash, login->hash_len));
    crypto_wipe(login->hash, sizeof(login->hash));
    if (login->failed || authenticator->rules == NULL) {
        login->view.password_seen = true;
        login_step(login, LOGIN_UNAVAILABLE);
    } else if (!login->known || !login->matched || !same) {
        refuse(login);
    } else {
        uint64_t now_s = authenticator->worker->now_us / 1000000;
        if (login->cache_key != 0 && authenticator->rules->cache_s != 0)
            login_cache_put(authenticator->options.cache, login->cache_key,
                            now_s + authenticator->rules->cache_s);
        passed(login, user, bytes_make(NULL, 0));
    }
}

static void compared(struct helper_job *job)
{
    struct login *login = (struct login *)(void *)job;
    CHECK(login->authenticator->hashing > 0);
    login->authenticator->hashing--;
    login->hashing = false;
    counter_add(&login->authenticator->hashed, login->compared);
    if (login->ended)
        login_give(login);
    else
        conclude(login);
}

/* hash compares with the user's hash, or with a stranger's. */
static void hash(struct login *login, const struct user *user, struct bytes password)
{
    struct authenticator *authenticator = login->authenticator;
    login->known = user != NULL;
    if (user == NULL)
        user = users_stranger(authenticator->rules->users);
    if (authenticator->hashing >= authenticator->options.waiting_max) {
        login_step(login, LOGIN_UNAVAILABLE);
        return;
    }
    CHECK(user->hash.len <= sizeof(login->hash) && password.len <= sizeof(login->password));
    memcpy(login->hash, user->hash.data, user->hash.len);
    memcpy(login->password, password.data, password.len);
    login->hash_len = (uint16_t)user->hash.len;
    login->password_len = (uint16_t)password.len;
    login->scheme = user->scheme;
    login->hashing = true;
    authenticator->hashing++;
    login->job =
        (struct helper_job){.run = compare, .done = compared, .worker = authenticator->worker};
    if (authenticator->options.helpers != NULL) {
        helpers_submit(authenticator->options.helpers, &login->job);
    } else {
        compare(&login->job);
        compared(&login->job);
    }
}

/* is_cached tells whether this password was right a short while ago, and notes its key if not. */
static bool is_cached(struct login *login, const struct user *user, struct bytes password)
{
    struct authenticator *authenticator = login->authenticator;
    const struct login_cache *cache = authenticator->options.cache;
    if (cache == NULL || authenticator->rules->cache_s == 0)
        return false;
    login->cache_key = login_cache_key(cache, user->name, password, user->hash);
    if (!login_cache_has(cache, login->cache_key, authenticator->worker->now_us / 1000000))
        return false;
    counter_add(&authenticator->cached, 1);
    return true;
}

static void plain(struct login *login, struct bytes message)
{
    struct sasl_plain said;
    if (!sasl_plain_parse(message, &said)) {
        login_step(login, LOGIN_MALFORMED);
        return;
    }
    const struct user *user = find(login, said.user);
    if (user != NULL)
        login_name(login, user->name);
    /* Nobody acts for another. */
    bool itself = said.authorization.len == 0 ||
                  bytes_equal_nocase(said.authorization, said.user) ||
                  (user != NULL && find(login, said.authorization) == user);
    if (user != NULL && itself && is_cached(login, user, said.password))
        passed(login, user, bytes_make(NULL, 0));
    else
        hash(login, itself ? user : NULL, said.password);
}

/* --- SCRAM --- */

static void scram_first(struct login *login, struct bytes message)
{
    const struct users *users = login->authenticator->rules->users;
    struct scram *scram = &login->scram;
    bool plus = login->setup.mechanism == SASL_SCRAM_SHA_256_PLUS;
    bool offered = login->setup.secure && login->setup.binding != NULL && users_scram(users);
    if (!scram_begin(scram, message, plus, offered)) {
        refuse(login);
        return;
    }
    struct bytes name = bytes_make(scram->user, scram->user_len);
    const struct user *user = find(login, name);
    login->known = user != NULL && user->scheme == PASSWORD_SCRAM_SHA_256 &&
                   scram_secret_read(user->hash, &scram->secret);
    if (!login->known)
        users_scram_stranger(users, name, login->authenticator->rules->domain, &scram->secret);
    if (user != NULL)
        login_name(login, user->name);
    login->view.challenge = scram_challenge(scram);
    login_step(login, LOGIN_CHALLENGE);
}

static void scram_last(struct login *login, struct bytes message)
{
    struct sasl_scram_final final;
    struct scram_secret now;
    size_t len = 0;
    login->view.challenge = bytes_make(NULL, 0);
    if (!sasl_scram_final_parse(message, &final)) {
        login_step(login, LOGIN_MALFORMED);
        return;
    }
    bool proved = scram_finish(&login->scram, message, login->setup.binding, login->message, &len);
    /* A reload may have changed the password, or taken the user away. */
    const struct user *user = find(login, bytes_make(login->name, login->name_len));
    bool same = user != NULL && user->scheme == PASSWORD_SCRAM_SHA_256 &&
                scram_secret_read(user->hash, &now) &&
                crypto_equal(now.stored_key, login->scram.secret.stored_key, CRYPTO_SHA256_LEN);
    if (proved && login->known && same)
        passed(login, user, bytes_make(login->message, len));
    else
        refuse(login);
}

/* --- both --- */

void login_file_begin(struct login *login, struct bytes message)
{
    switch (login->setup.mechanism) {
    case SASL_PLAIN:
    case SASL_LOGIN: plain(login, message); return;
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS: scram_first(login, message); return;
    default: refuse(login); /* tokens are for Dovecot */
    }
}

void login_file_respond(struct login *login, struct bytes response)
{
    if (login->authenticator->rules == NULL)
        login_step(login, LOGIN_UNAVAILABLE);
    else
        scram_last(login, response);
}

bool login_file_end(struct login *login)
{
    return !login->hashing;
}
