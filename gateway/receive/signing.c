/* Signing of a submitted message: see signing.h. The keys are held by a reference, so that a reload
 * may come at any time. */
#include "gateway/receive/signing.h"

#include <assert.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/io/helpers.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"

enum { SECOND_US = 1000000 };

struct signing {
    struct helper_job job;
    struct server *server;
    struct transaction *transaction;
    const struct dkim_domain *domain; /* kept */
    struct dkim_header header;
    struct canon_body body;
    struct crypto_hash hash; /* of the canonical body, until it is whole */
    uint8_t body_hash[CRYPTO_SHA256_LEN];
    uint64_t now_s;
    char *out[DKIM_KEYS_MAX];
    size_t lens[DKIM_KEYS_MAX];
    bool out_there; /* a helper works on it */
    bool ended;     /* the fields are made, or could not be */
    bool made;
};

static_assert(sizeof(struct signing) <= ARENA_TAKE_MAX, "it lies in one block");
static_assert((int)DKIM_FIELD_MAX <= (int)ARENA_TAKE_MAX, "and so does a field");

static void run(struct helper_job *job);
static void done(struct helper_job *job);

static bool take_room(struct signing *signing, struct arena *arena, struct blocks *blocks)
{
    for (uint32_t i = 0; i < dkim_domain_count(signing->domain); i++) {
        signing->out[i] = arena_take(arena, blocks, DKIM_FIELD_MAX);
        if (signing->out[i] == NULL)
            return false;
    }
    return true;
}

struct signing *signing_new(struct session *session, const struct fixups *fixups,
                            enum reply *refusal)
{
    struct server *server = session->server;
    struct transaction *transaction = session->transaction;
    const struct submission_rules *rules = server->options->submission;
    const struct dkim_domain *domain = NULL;
    if (rules != NULL && rules->dkim != NULL)
        domain = dkim_keys_find(rules->dkim, fixups_domain(fixups));
    if (domain == NULL)
        return NULL;
    struct blocks *blocks = server->context.blocks;
    struct signing *signing = arena_take(&transaction->arena, blocks, sizeof(*signing));
    if (signing != NULL) {
        memset(signing, 0, sizeof(*signing));
        signing->domain = domain;
    }
    if (signing == NULL || !take_room(signing, &transaction->arena, blocks)) {
        *refusal = REPLY_NO_MEMORY;
        return NULL;
    }
    dkim_domain_keep(domain);
    signing->server = server;
    signing->transaction = transaction;
    dkim_header_begin(&signing->header, fixups_header(fixups));
    crypto_hash_begin(&signing->hash);
    return signing;
}

bool signing_over(const struct transaction *transaction)
{
    return transaction->signing == NULL || !transaction->signing->out_there;
}

void signing_free(struct signing *signing)
{
    if (signing == NULL)
        return;
    CHECK(!signing->out_there);
    dkim_domain_drop(signing->domain);
}

static void take(void *user, struct bytes piece)
{
    crypto_hash_add(user, piece.data, piece.len);
}

void signing_body(struct signing *signing, struct bytes text)
{
    canon_body_text(&signing->body, text, take, &signing->hash);
}

/* run may be in a helper's thread. */
static void run(struct helper_job *job)
{
    struct signing *signing = list_entry(job, struct signing, job);
    signing->made = dkim_sign(signing->domain, &signing->header, signing->body_hash, signing->now_s,
                              signing->out, signing->lens);
}

/* settle: the fields are made, or the message is refused. */
static void settle(struct signing *signing)
{
    signing->ended = true;
    if (signing->made) {
        counter_add(&signing->server->counters.signed_messages, 1);
        return;
    }
    signing->transaction->refusal = REPLY_SIGNING_FAILED;
    server_log_signing_failed(signing->server, signing->transaction);
}

static void done(struct helper_job *job)
{
    struct signing *signing = list_entry(job, struct signing, job);
    struct transaction *transaction = signing->transaction;
    struct session *session = transaction->session;
    signing->out_there = false;
    settle(signing);
    if (session == NULL)
        server_forget(signing->server, transaction);
    else if (stream_of(session)->state == STREAM_OPEN)
        session_commit(session); /* else its end lets go of the transaction */
}

bool signing_text_ended(struct session *session)
{
    struct server *server = session->server;
    struct signing *signing = session->transaction->signing;
    if (signing == NULL || signing->ended || session->transaction->refusal != REPLY_NONE)
        return false;
    canon_body_end(&signing->body, take, &signing->hash);
    crypto_hash_end(&signing->hash, signing->body_hash);
    signing->now_s = server->worker->now_wall_us / SECOND_US;
    if (server->signers == NULL || !dkim_domain_slow(signing->domain)) {
        run(&signing->job);
        settle(signing);
        return false;
    }
    signing->job = (struct helper_job){.run = run, .done = done, .worker = server->worker};
    signing->out_there = true;
    helpers_submit(server->signers, &signing->job);
    session_ask(session);
    return true;
}

size_t signing_fields(const struct signing *signing, char *out)
{
    size_t len = 0;
    if (signing == NULL)
        return 0;
    CHECK(signing->made);
    for (uint32_t i = 0; i < dkim_domain_count(signing->domain); i++) {
        memcpy(out + len, signing->out[i], signing->lens[i]);
        len += signing->lens[i];
    }
    return len;
}
