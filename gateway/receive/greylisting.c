/* The greylist at RCPT: see greylisting.h. */
#include "gateway/receive/greylisting.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/verbs.h"

#include <string.h>

/* A RCPT that waits for other gateways: in the transaction's arena, until the answer. */
struct greylisting {
    struct session *session;
    struct arena mark;   /* of the arena, before it */
    struct command rcpt; /* its texts are copied */
    struct shared_question question;
};

/* is_asked: to whom the greylist applies. Not to users of ours. A bounce comes once and is not
 * tried again by all; postmaster must be reachable (RFC 5321 4.5.1). */
static bool is_asked(const struct session *session, const struct command *rcpt)
{
    const struct server *server = session->server;
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    if (server->greylist == NULL || server->options->greylist.delay_s == 0 ||
        session->transaction->envelope.reverse_path.len == 0 || session->exempt || session->local ||
        (session->transaction->envelope.flags & ENVELOPE_SUBMITTED) != 0)
        return false;
    size_t len = address_local_unquoted(&rcpt->address, local);
    return !bytes_equal_nocase(bytes_make(local, len), BYTES("postmaster"));
}

/* move_address lets an address point to a copy of its text. */
static void move_address(struct address *address, const uint8_t *copy)
{
    size_t local = (size_t)(address->local.data - address->text.data);
    CHECK(local + address->local.len <= address->text.len);
    address->local.data = copy + local;
    if (address->domain.len > 0)
        address->domain.data = copy + (address->domain.data - address->text.data);
    address->text.data = copy;
}

static enum reply refuse(struct session *session, struct bytes mailbox)
{
    server_log_greylisted(session->server, session, mailbox);
    return REPLY_GREYLISTED;
}

static void answered(struct shared_question *question, enum greylist_verdict verdict)
{
    const struct greylisting *greylisting = question->user;
    struct session *session = greylisting->session;
    struct server *server = session->server;
    struct transaction *transaction = session->transaction;
    uint8_t text[LIMIT_LINE]; /* the RCPT line was no longer */
    struct command rcpt = greylisting->rcpt;
    CHECK(transaction->greylisting == greylisting &&
          rcpt.address.text.len + rcpt.orcpt.len <= sizeof(text));
    uint8_t *orcpt = text + rcpt.address.text.len;
    memcpy(text, rcpt.address.text.data, rcpt.address.text.len);
    memcpy(orcpt, rcpt.orcpt.data, rcpt.orcpt.len);
    move_address(&rcpt.address, text);
    rcpt.orcpt.data = orcpt;
    struct arena mark = greylisting->mark; /* lies in what goes now */
    transaction->greylisting = NULL;
    arena_rewind(&transaction->arena, server->context.blocks, &mark);
    if (stream_of(session)->state != STREAM_OPEN)
        return; /* `closed` lets go of the rest */
    bool passes = verdict == GREYLIST_KNOWN || verdict == GREYLIST_PASSED;
    if (passes) {
        verbs_recipient(session, &rcpt);
        return;
    }
    transaction->refused_count++;
    session_asked_reply(session, refuse(session, rcpt.address.text));
}

/* ask_others asks the other gateways. False: they can't be asked now. */
static bool ask_others(struct session *session, const struct command *rcpt, uint64_t triplet,
                       uint64_t network)
{
    struct server *server = session->server;
    struct transaction *transaction = session->transaction;
    struct blocks *blocks = server->context.blocks;
    if (server->shared == NULL || blocks->count - blocks->used < server->context.blocks_reserved)
        return false;
    struct arena mark = transaction->arena;
    struct greylisting *greylisting = arena_take(&transaction->arena, blocks, sizeof(*greylisting));
    const struct bytes from = rcpt->address.text;
    const uint8_t *mailbox = arena_copy(&transaction->arena, blocks, from.data, from.len);
    const uint8_t *orcpt =
        arena_copy(&transaction->arena, blocks, rcpt->orcpt.data, rcpt->orcpt.len);
    if (greylisting != NULL && mailbox != NULL && orcpt != NULL) {
        *greylisting = (struct greylisting){
            .session = session,
            .mark = mark,
            .rcpt = {.verb = VERB_RCPT,
                     .address = rcpt->address,
                     .orcpt = bytes_make(orcpt, rcpt->orcpt.len),
                     .notify = rcpt->notify,
                     .has_notify = rcpt->has_notify},
            .question = {.answered = answered, .user = greylisting  },
        };
        move_address(&greylisting->rcpt.address, mailbox);
        if (shared_ask(server->shared, &server->options->greylist, &greylisting->question, triplet,
                       network)) {
            transaction->greylisting = greylisting;
            session_ask(session);
            return true;
        }
    }
    arena_rewind(&transaction->arena, blocks, &mark);
    return false;
}

enum reply greylisting_recipient(struct session *session, const struct command *rcpt)
{
    struct server *server = session->server;
    const struct greylist_rules *rules = &server->options->greylist;
    uint64_t secret = server->options->greylist_secret;
    uint64_t now_s = server->worker->now_wall_us / 1000000;
    if (!is_asked(session, rcpt))
        return REPLY_RECIPIENT_OK;
    uint64_t triplet = 0, network = greylist_network_key(secret, &session->peer);
    enum greylist_verdict verdict = greylist_knows(server->greylist, rules, network, now_s);
    if (verdict == GREYLIST_FIRST) {
        triplet = greylist_key(secret, &session->peer, session->transaction->envelope.reverse_path,
                               rcpt->address.text);
        verdict = greylist_ask(server->greylist, rules, triplet, network, now_s);
    }
    if (verdict == GREYLIST_PASSED && server->shared != NULL)
        shared_passed(server->shared, rules, network);
    if (verdict == GREYLIST_KNOWN || verdict == GREYLIST_PASSED)
        return REPLY_RECIPIENT_OK;
    if (ask_others(session, rcpt, triplet, network))
        return REPLY_NONE;
    return refuse(session, rcpt->address.text);
}

void greylisting_cancel(struct server *server, struct transaction *transaction)
{
    if (transaction->greylisting == NULL)
        return;
    shared_cancel(server->shared, &transaction->greylisting->question);
    transaction->greylisting = NULL; /* the arena has its memory */
}
