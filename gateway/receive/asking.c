/* Questions to the next hop: see asking.h. The session knows only that it waits; what is asked, and
 * what an answer means for the transaction, is decided here. */
#include "gateway/receive/asking.h"

#include "gateway/base/check.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/submission.h"

#include <stdio.h>
#include <string.h>

static_assert(sizeof(struct asking) <= ARENA_TAKE_MAX, "it lies in one block");

enum { PASSED_LEN_MAX = HOP_TEXT_LEN_MAX + 32 };

/* --- on its way --- */

static void answered(struct hop_question *question);

static void ask(struct asking *asking, enum hop_ask what)
{
    struct server *server = asking->server;
    struct hop_question *question = &asking->question;
    const struct envelope *envelope = &asking->transaction->envelope;
    CHECK(!asking->out && server->hop != NULL);
    question->asker = server->worker;
    question->answered = answered;
    question->user = asking;
    question->ask = what;
    question->passage = what == HOP_CALLAHEAD ? NULL : asking->passage;
    question->reverse_path = envelope->reverse_path;
    question->envid = envelope->envid;
    question->flags = envelope->flags;
    question->message_id = envelope->message_id;
    question->session_id = asking->transaction->session_id;
    question->patience_us = (uint64_t)server->options->through_patience_ms * 1000;
    question->code = 0;
    question->status_class = 0;
    question->text[0] = '\0';
    question->passed = question->cached = question->dsn = question->mixed = false;
    atomic_store(&question->abandoned, false);
    asking->out = true;
    worker_expect(server->worker);
    server->hop->send(server->hop->user, question);
}

/* spool_takes_over: nobody is asked about this transaction any more. */
static void spool_takes_over(struct asking *asking)
{
    asking->way = ASKING_SPOOLED;
    asking->transaction->collecting = false;
    if (asking->passage != NULL && !asking->out)
        ask(asking, HOP_END);
}

bool asking_over(struct transaction *transaction)
{
    struct asking *asking = transaction->asking;
    if (asking == NULL)
        return true;
    if (asking->out)
        atomic_store(&asking->question.abandoned, true);
    else if (asking->passage != NULL)
        ask(asking, HOP_END);
    return !asking->out;
}

const char *asking_way_name(const struct transaction *transaction)
{
    static const char *const names[] = {
        [ASKING_OPEN] = "open",
        [ASKING_THROUGH] = "through",
        [ASKING_ORDINARY] = "ordinary",
        [ASKING_SPOOLED] = "spooled",
    };
    return transaction->asking == NULL ? NULL : names[transaction->asking->way];
}

/* --- what the next hop said, as a line of ours --- */

/* passable_code gives the code that the client hears: the next hop's, as far as we may say it. 421
 * would announce that we close (RFC 5321 4.2.3). */
static unsigned passable_code(const struct hop_question *question)
{
    static const unsigned plain[] = {
        [HOP_ACCEPTED] = 250, [HOP_DEFERRED] = 450, [HOP_REFUSED] = 550, [HOP_UNREACHABLE] = 450};
    unsigned code = question->code;
    if (question->ask == HOP_CALLAHEAD || code / 100 != plain[question->answer] / 100 ||
        code / 10 % 10 > 5 || code == 421)
        return plain[question->answer];
    if (question->answer == HOP_ACCEPTED && (question->ask != HOP_RECIPIENT || code != 251))
        return 250;
    return code;
}

/* passed_line writes the reply of the next hop to `out` of PASSED_LEN_MAX octets. Without SMTPUTF8
 * a reply is ASCII (RFC 6531 3.7.4), and it need not be said in anything else. */
static struct bytes passed_line(const struct hop_question *question, char *out)
{
    static const char *const fallback[] = {
        [HOP_ACCEPTED] = "Ok",
        [HOP_DEFERRED] = "Not now",
        [HOP_REFUSED] = "Refused by the next hop",
        [HOP_UNREACHABLE] = "Not now",
    };
    unsigned code = passable_code(question), class = code / 100;
    bool given = question->status_class == class && question->status_subject <= 999 &&
                 question->status_detail <= 999;
    bool recipient = question->ask == HOP_RECIPIENT && class == 2;
    unsigned subject = given ? question->status_subject : recipient ? 1 : 0;
    unsigned detail = given ? question->status_detail : recipient ? 5 : 0;
    int len = snprintf(out, PASSED_LEN_MAX, "%u %u.%u.%u %.*s\r\n", code, class, subject, detail,
                       HOP_TEXT_LEN_MAX - 1,
                       question->text[0] != '\0' ? question->text : fallback[question->answer]);
    CHECK(len > 2 && len < PASSED_LEN_MAX);
    for (int i = 0; i < len - 2; i++)
        if (out[i] < ' ' || out[i] > '~')
            out[i] = '?';
    return bytes_make(out, (size_t)len);
}

/* --- recipients --- */

static struct asking *asking_new(struct session *session)
{
    struct transaction *transaction = session->transaction;
    struct server *server = session->server;
    struct asking *asking =
        arena_take(&transaction->arena, server->context.blocks, sizeof(*asking));
    if (asking == NULL)
        return NULL;
    memset(asking, 0, sizeof(*asking));
    asking->server = server;
    asking->transaction = transaction;
    transaction->asking = asking;
    return asking;
}

static bool copy_bytes(struct asking *asking, struct bytes in, struct bytes *out)
{
    void *copy =
        arena_copy(&asking->transaction->arena, asking->server->context.blocks, in.data, in.len);
    *out = bytes_make(copy, in.len);
    return copy != NULL;
}

struct stamp asking_stamp(struct session *session)
{
    const uint8_t *helo = session->helo_long != NULL ? session->helo_long : session->helo_short;
    const struct submission_rules *rules = session->server->options->submission;
    return (struct stamp){
        .helo = bytes_make(helo, session->helo_len),
        .peer = &session->peer,
        .extended = session->extended,
        .tls = session_is_secure(session) ? tls_info(stream_tls(stream_of(session))) : NULL,
        .user = authenticating_user(session),
        .mechanism = authenticating_mechanism(session),
        .results = rules != NULL && rules->results,
        .wall_us = session->server->worker->now_wall_us,
    };
}

/* stamp_len returns how long our Received field will be, at most: for the next hop's limit of size.
 */
static size_t stamp_len(struct session *session, const struct command *rcpt)
{
    char received[STAMP_LEN_MAX];
    struct stamp stamp = asking_stamp(session);
    stamp.recipient = rcpt->address.text;
    return transaction_stamp(&session->server->context, session->transaction, &stamp, received);
}

/* ask_about asks whether a recipient would be taken. REPLY_NONE: it does. */
static enum reply ask_about(struct session *session, const struct command *rcpt, enum hop_ask what)
{
    struct transaction *transaction = session->transaction;
    const struct transaction_context *context = &session->server->context;
    if (transaction->envelope.recipient_count >= transaction->recipients_max)
        return REPLY_TOO_MANY_RECIPIENTS;
    if (context->blocks->count - context->blocks->used < context->blocks_reserved)
        return REPLY_NO_MEMORY;
    struct asking *asking = transaction->asking;
    if (asking == NULL)
        asking = asking_new(session);
    if (asking == NULL)
        return REPLY_NO_MEMORY;
    if (what == HOP_RECIPIENT && asking->passed_count == HOP_RECIPIENTS_MAX)
        return REPLY_TOO_MANY_RECIPIENTS;
    asking->mark = transaction->arena;
    struct hop_question *question = &asking->question;
    if (!copy_bytes(asking, rcpt->address.text, &question->forward_path) ||
        !copy_bytes(asking, rcpt->orcpt, &question->orcpt)) {
        arena_rewind(&transaction->arena, context->blocks, &asking->mark);
        return REPLY_NO_MEMORY;
    }
    question->notify = rcpt->notify;
    question->size = transaction->size == 0 ? 0 : transaction->size + stamp_len(session, rcpt);
    ask(asking, what);
    session_ask(session);
    return REPLY_NONE;
}

bool asking_recipient(struct session *session, const struct command *rcpt, uint32_t flags,
                      enum reply *reply)
{
    struct transaction *transaction = session->transaction;
    struct asking *asking = transaction->asking;
    bool submitted = (transaction->envelope.flags & ENVELOPE_SUBMITTED) != 0;
    if (session->server->hop == NULL || (asking == NULL && flags == 0) || submitted)
        return false;
    enum asking_way way = asking != NULL ? (enum asking_way)asking->way : ASKING_OPEN;
    if (way == ASKING_OPEN && transaction->envelope.recipient_count > 0) {
        way = ASKING_ORDINARY;
        if (asking != NULL)
            asking->way = ASKING_ORDINARY;
    }
    bool through = flags & DIRECTORY_THROUGH;
    bool silent = asking != NULL && asking->silent && !through;
    if (way == ASKING_SPOOLED)
        return false;
    if ((way == ASKING_THROUGH && !through) || (way == ASKING_ORDINARY && through))
        *reply = REPLY_OTHER_DESTINATION;
    else if (flags == 0 || silent || transaction_has(transaction, rcpt->address.text))
        return false; /* who is there is there, and gets it once */
    else
        *reply = ask_about(session, rcpt, through ? HOP_RECIPIENT : HOP_CALLAHEAD);
    return true;
}

/* keep makes the mailbox that was asked about a recipient. */
static enum reply keep(struct asking *asking)
{
    const struct hop_question *question = &asking->question;
    const struct transaction_context *context = &asking->server->context;
    struct transaction *transaction = asking->transaction;
    const struct command rcpt = {
        .verb = VERB_RCPT,
        .address = {.text = question->forward_path},
        .orcpt = question->orcpt,
        .notify = question->notify,
    };
    enum reply reply = transaction_recipient_add(context, transaction, &rcpt);
    bool through = question->ask == HOP_RECIPIENT && question->answer == HOP_ACCEPTED;
    if (through && reply == REPLY_RECIPIENT_OK) {
        CHECK(asking->passed_count < HOP_RECIPIENTS_MAX);
        asking->passed[asking->passed_count++] = transaction->recipients_last;
        asking->way = ASKING_THROUGH;
        if ((question->notify & COMMAND_NOTIFY_SUCCESS) && !question->dsn)
            spool_takes_over(asking); /* who else would tell of the success? RFC 3461 5.2.1 */
    } else if (question->ask == HOP_CALLAHEAD) {
        asking->silent = asking->silent || question->answer == HOP_UNREACHABLE;
    } else {
        spool_takes_over(asking); /* it did not answer, or has a recipient that we have not */
    }
    return reply;
}

static void recipient_answered(struct asking *asking)
{
    const struct hop_question *question = &asking->question;
    struct transaction *transaction = asking->transaction;
    struct session *session = transaction->session;
    char passed[PASSED_LEN_MAX];
    struct bytes line = passed_line(question, passed);
    enum reply reply = REPLY_NONE; /* ours, in place of the line */
    bool through = question->ask == HOP_RECIPIENT;
    bool passes = through && question->answer == HOP_ACCEPTED;
    bool refused = question->answer == HOP_REFUSED || (through && question->answer == HOP_DEFERRED);
    if (refused) {
        arena_rewind(&transaction->arena, asking->server->context.blocks, &asking->mark);
        transaction->refused_count++;
    } else {
        reply = keep(asking); /* the question may be out again */
        if (reply == REPLY_RECIPIENT_OK)
            session->state = SESSION_RCPT;
        else
            transaction->refused_count++;
        if (passes && reply == REPLY_RECIPIENT_OK)
            reply = REPLY_NONE;
    }
    if (reply == REPLY_NONE)
        session_asked(session, line);
    else
        session_asked_reply(session, reply);
}

/* --- text --- */

void asking_text_begins(struct session *session)
{
    struct transaction *transaction = session->transaction;
    struct asking *asking = transaction->asking;
    if (asking == NULL || asking->way != ASKING_THROUGH)
        return;
    transaction->collection = &asking->collection;
    transaction->collecting = true;
    if (transaction->size > COLLECTION_LEN_MAX)
        spool_takes_over(asking);
}

void asking_text_came(struct session *session)
{
    struct asking *asking = session->transaction->asking;
    if (asking == NULL || asking->way != ASKING_THROUGH)
        return;
    if (!asking->transaction->collecting || asking->transaction->refusal != REPLY_NONE)
        spool_takes_over(asking);
}

bool asking_text_ended(struct session *session, struct stamp *stamp)
{
    struct transaction *transaction = session->transaction;
    struct asking *asking = transaction->asking;
    if (asking == NULL)
        return false;
    asking_text_came(session);
    if (asking->way != ASKING_THROUGH)
        return false;
    struct blocks *blocks = session->server->context.blocks;
    char *received = arena_take(&transaction->arena, blocks, STAMP_LEN_MAX);
    if (received == NULL) {
        spool_takes_over(asking);
        return false;
    }
    struct hop_question *question = &asking->question;
    const struct collection *collection = &asking->collection;
    size_t len = transaction_stamp(&session->server->context, transaction, stamp, received);
    question->head = bytes_make(received, len);
    question->pieces = collection->pieces;
    question->piece_count = collection->count;
    question->size = len + collection_len(collection);
    ask(asking, HOP_TEXT);
    session_ask(session);
    return true;
}

/* drop_delivered leaves those recipients that the next hop has not taken the text for. */
static void drop_delivered(struct asking *asking)
{
    struct transaction *transaction = asking->transaction;
    struct transaction_recipient **link = &transaction->recipients;
    transaction->recipients_last = NULL;
    while (*link != NULL) { /* at most HOP_RECIPIENTS_MAX, as is the loop inside */
        bool delivered = false;
        for (uint32_t i = 0; i < asking->passed_count; i++)
            delivered = delivered || (asking->passed[i] == *link &&
                                      asking->question.outcomes[i] == HOP_ACCEPTED);
        if (delivered) {
            *link = (*link)->next;
            transaction->envelope.recipient_count--;
        } else {
            transaction->recipients_last = *link;
            link = &(*link)->next;
        }
    }
}

static void text_answered(struct asking *asking)
{
    const struct hop_question *question = &asking->question;
    struct session *session = asking->transaction->session;
    char passed[PASSED_LEN_MAX];
    if (question->answer == HOP_ACCEPTED && question->mixed)
        drop_delivered(asking);
    bool spooled = question->answer == HOP_UNREACHABLE ||
                   (question->answer == HOP_ACCEPTED && question->mixed);
    if (spooled && asking->transaction->recipients != NULL) {
        spool_takes_over(asking);
        session_commit(session);
        return;
    }
    if (question->answer == HOP_ACCEPTED)
        server_count_message(asking->server, asking->transaction);
    struct bytes line = passed_line(question, passed);
    session_message_passed(session, line, passable_code(question));
}

static void answered(struct hop_question *question)
{
    struct asking *asking = question->user;
    struct transaction *transaction = asking->transaction;
    struct server *server = asking->server;
    worker_received(server->worker);
    CHECK(asking->out);
    asking->out = false;
    if (question->ask != HOP_CALLAHEAD)
        asking->passage = question->passage;
    struct session *session = transaction->session;
    bool listening = session != NULL && stream_of(session)->state == STREAM_OPEN;
    if (!listening && question->ask == HOP_TEXT && question->answer == HOP_ACCEPTED)
        server_log_message(server, session, transaction, 0); /* the client sends it again */
    if (session == NULL)
        server_forget(server, transaction);
    else if (!listening || question->ask == HOP_END)
        return; /* who ends lets go of the transaction when it is `closed` */
    else if (question->ask == HOP_TEXT)
        text_answered(asking);
    else
        recipient_answered(asking);
}
