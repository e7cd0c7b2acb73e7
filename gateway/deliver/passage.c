/* Passages: see passage.h. A passage has two who know it: the asker, between its questions
 * (`held`), and whoever delivers (`alive`). It goes when both have let go. */
#include "gateway/deliver/passage.h"

#include "gateway/base/check.h"
#include "gateway/deliver/outcome_log.h"
#include "gateway/deliver/patience.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPACITY_FIRST = 4, /* recipients */
    LOOK_US = 500000,   /* those who rest are asked so often whether others wait */
    ASKED_MAX = 1000,   /* recipients of a passage, refused ones included */
};

/* Octets that a passage keeps. */
struct kept {
    struct kept *next;
    uint8_t octets[];
};

struct hop_passage {
    struct delivery delivery;
    struct passages *passages;
    struct hop_question *question; /* under way; NULL: none */
    struct list_node resting;      /* in passages->resting: alive, and nobody asks */
    uint64_t rested_us;            /* since when */
    struct kept *kept;
    uint64_t session_id; /* of the client who waits, for the log */
    uint32_t destination;
    uint32_t capacity;                        /* of delivery.recipients */
    uint32_t accepted;                        /* recipients */
    uint32_t accepted_at[HOP_RECIPIENTS_MAX]; /* their places among delivery.recipients */
    uint32_t piece;                           /* of the text: the next one */
    bool alive;                               /* `delivered` has not been called */
    bool held;                                /* the asker will come again */
    bool given_up;                            /* cancelled by us */
    bool retried; /* its first question was asked over a second connection */
};

struct passages {
    struct passages_options options;
    struct patience patience;
    struct list resting; /* passages, the longest resting first */
    uint64_t look_us;    /* when they are looked at next */
    struct passages_counters counters;
    uint32_t alive_count;
    bool stopping;
};

/* --- life --- */

struct passages *passages_new(const struct passages_options *options)
{
    struct passages *passages = calloc(1, sizeof(*passages));
    if (passages == NULL)
        return NULL;
    passages->options = *options;
    patience_init(&passages->patience);
    list_init(&passages->resting);
    return passages;
}

void passages_free(struct passages *passages)
{
    CHECK(passages == NULL || passages_at_rest(passages));
    free(passages);
}

void passages_configure(struct passages *passages, const struct routes *routes)
{
    passages->options.routes = routes;
}

bool passages_at_rest(const struct passages *passages)
{
    return passages->alive_count == 0 && list_empty(&passages->patience.waiting);
}

const struct passages_counters *passages_counters(const struct passages *passages)
{
    return &passages->counters;
}

static struct hop_passage *passage_new(struct passages *passages)
{
    struct hop_passage *passage = calloc(1, sizeof(*passage));
    if (passage == NULL)
        return NULL;
    passage->passages = passages;
    passages->counters.open++;
    return passage;
}

static void passage_free(struct hop_passage *passage)
{
    struct kept *next;
    CHECK(!passage->alive && passage->question == NULL);
    list_remove(&passage->resting);
    for (struct kept *kept = passage->kept; kept != NULL; kept = next) {
        next = kept->next;
        free(kept);
    }
    free(passage->delivery.recipients);
    passage->passages->counters.open--;
    free(passage);
}

static void settle(struct hop_passage *passage)
{
    if (!passage->alive && !passage->held)
        passage_free(passage);
}

/* keep copies octets that a question only lends. False: no memory. */
static bool keep(struct hop_passage *passage, struct bytes in, struct bytes *out)
{
    struct kept *kept = malloc(sizeof(*kept) + in.len);
    if (kept == NULL)
        return false;
    kept->next = passage->kept;
    passage->kept = kept;
    if (in.len > 0)
        memcpy(kept->octets, in.data, in.len);
    *out = bytes_make(kept->octets, in.len);
    return true;
}

/* --- answers --- */

/* give returns the question with the answer that it has. `over`: there is no passage any more. */
static void give(struct hop_passage *passage, bool over)
{
    struct hop_question *question = passage->question;
    CHECK(question != NULL);
    passage->question = NULL;
    passage->held = !over;
    passage->passages->counters.in_doubt -= question->ask == HOP_TEXT;
    passage->passages->counters.given_up += question->answer == HOP_UNREACHABLE;
    patience_remove(question);
    question->passage = over ? NULL : passage;
    hop_return(question);
}

/* give_up ends the delivery, which will be `delivered`, and answers. A text is lent by the
 * question: its answer comes when nobody reads it any more. */
static void give_up(struct hop_passage *passage)
{
    struct passages *passages = passage->passages;
    list_remove(&passage->resting);
    if (passage->question != NULL) {
        passage->question->answer = HOP_UNREACHABLE;
        if (passage->question->ask != HOP_TEXT)
            give(passage, true);
    }
    if (!passage->given_up)
        destinations_cancel(passages->options.destinations, &passage->delivery);
    passage->given_up = true;
}

static void rest(struct hop_passage *passage, uint64_t now_us)
{
    passage->rested_us = now_us;
    list_append(&passage->passages->resting, &passage->resting);
}

static void count(struct passages *passages, enum hop_answer answer, uint32_t recipients)
{
    if (answer == HOP_ACCEPTED)
        passages->counters.delivered += recipients;
    if (answer == HOP_REFUSED)
        passages->counters.refused += recipients;
    if (answer == HOP_DEFERRED)
        passages->counters.deferred += recipients;
}

/* --- recipients --- */

static void answered(struct delivery *delivery, uint32_t index);
static void delivered(struct delivery *delivery);
static int next_piece(void *user, struct bytes *piece);
static int first_piece(void *user);

/* deny answers what we know better than the next hop. The passage stays as it is. */
static void deny(struct hop_question *question, const char *text)
{
    struct verdict verdict = {
        .kind = VERDICT_DEFERRED, .code = 452, .status = {4, 5, 3}
    };
    CHECK(strlen(text) < sizeof(verdict.text));
    memcpy(verdict.text, text, strlen(text));
    patience_judge(question, &verdict);
    hop_return(question);
}

/* decline says that there is no passage to be had. */
static void decline(struct passages *passages, struct hop_question *question)
{
    passages->counters.given_up++;
    patience_give_up(question);
}

/* append adds the question's recipient. False: no memory. */
static bool append(struct hop_passage *passage, const struct hop_question *question)
{
    struct delivery *delivery = &passage->delivery;
    if (delivery->recipient_count == passage->capacity) {
        uint32_t capacity = passage->capacity == 0 ? CAPACITY_FIRST : passage->capacity * 2;
        void *grown = realloc(delivery->recipients, capacity * sizeof(*delivery->recipients));
        if (grown == NULL)
            return false;
        delivery->recipients = grown;
        passage->capacity = capacity;
    }
    struct delivery_recipient *recipient = &delivery->recipients[delivery->recipient_count];
    *recipient =
        (struct delivery_recipient){.index = delivery->recipient_count, .notify = question->notify};
    if (!keep(passage, question->forward_path, &recipient->forward_path) ||
        !keep(passage, question->orcpt, &recipient->orcpt))
        return false;
    delivery->recipient_count++;
    return true;
}

/* find_destination returns where the recipient goes; 0: nowhere that could be asked. */
static uint32_t find_destination(struct passages *passages, struct bytes mailbox)
{
    const struct route *route = routes_find(passages->options.routes, mailbox, false);
    bool asks = route != NULL &&
                (route->kind == ROUTE_SMTP || route->kind == ROUTE_MX || route->kind == ROUTE_LMTP);
    return asks ? destinations_find(passages->options.destinations, route,
                                    route_mailbox_domain(mailbox))
                : 0;
}

/* open_passage makes one for the recipient, and begins the delivery. False: no memory. */
static bool open_passage(struct passages *passages, struct hop_question *question,
                         uint32_t destination)
{
    struct hop_passage *passage = passage_new(passages);
    if (passage == NULL)
        return false;
    struct delivery *delivery = &passage->delivery;
    delivery->message_id = question->message_id;
    passage->session_id = question->session_id;
    delivery->flags = question->flags;
    delivery->size = question->size;
    delivery->text = (struct delivery_text){next_piece, first_piece, passage};
    delivery->stepwise = true;
    delivery->user = passage;
    delivery->answered = answered;
    delivery->delivered = delivered;
    passage->destination = destination;
    if (!keep(passage, question->reverse_path, &delivery->reverse_path) ||
        !keep(passage, question->envid, &delivery->envid) || !append(passage, question)) {
        passage_free(passage);
        return false;
    }
    passage->question = question;
    question->passage = passage;
    passage->alive = true;
    passages->alive_count++;
    destinations_deliver(passages->options.destinations, destination, delivery);
    return true;
}

/* leave lets go of a passage that its asker does not want any more. */
static void leave(struct hop_passage *passage)
{
    passage->held = false;
    if (passage->alive)
        give_up(passage);
    else
        settle(passage);
}

/* usable: the passage may be asked more. */
static bool usable(const struct passages *passages, const struct hop_passage *passage)
{
    return passage->alive && !passage->given_up && !passages->stopping;
}

static void ask_another(struct passages *passages, struct hop_question *question, uint64_t now_us)
{
    struct hop_passage *passage = question->passage;
    if (passage->accepted == HOP_RECIPIENTS_MAX || passage->delivery.recipient_count >= ASKED_MAX) {
        deny(question, "Too many recipients");
        return;
    }
    if (!append(passage, question)) {
        leave(passage);
        decline(passages, question);
        return;
    }
    list_remove(&passage->resting);
    passage->question = question;
    patience_add(&passages->patience, question, now_us);
    CHECK(passage->delivery.client != NULL);
    client_continue(passage->delivery.client);
}

static void ask_recipient(struct passages *passages, struct hop_question *question, uint64_t now_us)
{
    struct hop_passage *passage = question->passage;
    CHECK(passage == NULL || (passage->held && passage->question == NULL));
    if (passages->stopping || (passage != NULL && !usable(passages, passage))) {
        if (passage != NULL)
            leave(passage);
        decline(passages, question);
        return;
    }
    uint32_t destination = find_destination(passages, question->forward_path);
    if (passage != NULL && passage->destination == destination) {
        ask_another(passages, question, now_us);
        return;
    }
    if (passage != NULL && passage->accepted > 0) {
        deny(question, "Send this recipient in another transaction");
        return;
    }
    if (passage != NULL)
        leave(passage); /* nothing came of the other one */
    if (destination == 0 || !open_passage(passages, question, destination))
        decline(passages, question);
    else
        patience_add(&passages->patience, question, now_us);
}

static void log_recipient(const struct hop_passage *passage,
                          const struct delivery_recipient *recipient, enum hop_answer answer)
{
    outcome_log_passed(passage->passages->options.log, passage->session_id, &passage->delivery,
                       recipient, answer);
}

/* answered: the next hop has replied to a RCPT, or refused MAIL (and the delivery will be over). */
static void answered(struct delivery *delivery, uint32_t index)
{
    struct hop_passage *passage = delivery->user;
    struct passages *passages = passage->passages;
    struct hop_question *question = passage->question;
    bool mail = index == UINT32_MAX;
    uint32_t asked = delivery->recipient_count - 1;
    if (question == NULL || question->ask != HOP_RECIPIENT || (!mail && index != asked))
        return; /* nobody waits for it any more */
    const struct verdict *verdict = &delivery->recipients[asked].verdict;
    patience_judge(question, verdict);
    if (question->answer == HOP_UNREACHABLE)
        return; /* no reply that we know: `delivered` comes, or its time runs out */
    if (!mail && !patience_concerns_mailbox(verdict)) {
        log_recipient(passage, &delivery->recipients[asked], HOP_UNREACHABLE);
        give_up(passage);
        return;
    }
    question->dsn = delivery->dsn_passed;
    if (question->answer == HOP_ACCEPTED)
        passage->accepted_at[passage->accepted++] = asked;
    else
        count(passages, question->answer, 1);
    if (!mail)
        rest(passage, question->due_us - question->patience_us);
    give(passage, mail);
}

/* --- text --- */

static int next_piece(void *user, struct bytes *piece)
{
    struct hop_passage *passage = user;
    const struct hop_question *question = passage->question;
    if (question == NULL || question->ask != HOP_TEXT)
        return -ENODATA; /* asked at MAIL whether the header is ASCII: the spool would know */
    *piece = passage->piece < question->piece_count ? question->pieces[passage->piece++]
                                                    : bytes_make(NULL, 0);
    return 0;
}

static int first_piece(void *user)
{
    struct hop_passage *passage = user;
    passage->piece = 0;
    return 0;
}

static void ask_text(struct passages *passages, struct hop_question *question, uint64_t now_us)
{
    struct hop_passage *passage = question->passage;
    CHECK(passage != NULL && passage->held && passage->question == NULL);
    if (!usable(passages, passage) || passage->accepted == 0) {
        leave(passage);
        decline(passages, question);
        return;
    }
    passages->counters.in_doubt++;
    struct delivery *delivery = &passage->delivery;
    list_remove(&passage->resting);
    passage->question = question;
    delivery->head = question->head;
    delivery->size = question->size;
    delivery->text_ready = true;
    patience_add(&passages->patience, question, now_us);
    CHECK(delivery->client != NULL);
    client_continue(delivery->client);
}

/* judge_text makes one answer of what became of all recipients that were accepted. Only with LMTP
 * they can differ: then `outcomes` says which have it; nobody has: the first 4xx, else the first
 * 5xx. True: of some we have not heard. */
static bool judge_text(struct hop_passage *passage)
{
    static const uint8_t rank[] = {
        [HOP_ACCEPTED] = 0, [HOP_UNREACHABLE] = 1, [HOP_DEFERRED] = 2, [HOP_REFUSED] = 3};
    struct hop_question *question = passage->question;
    const struct delivery_recipient *recipients = passage->delivery.recipients;
    const struct verdict *best = &recipients[passage->accepted_at[0]].verdict;
    uint32_t well = 0, unheard = 0;
    for (uint32_t i = 0; i < passage->accepted; i++) {
        const struct delivery_recipient *recipient = &recipients[passage->accepted_at[i]];
        enum hop_answer answer = patience_answer(&recipient->verdict);
        question->outcomes[i] = (uint8_t)answer;
        well += answer == HOP_ACCEPTED;
        unheard += answer == HOP_UNREACHABLE;
        if (rank[answer] < rank[patience_answer(best)])
            best = &recipient->verdict;
        count(passage->passages, answer, 1);
        log_recipient(passage, recipient, answer);
    }
    patience_judge(question, best);
    question->mixed = well > 0 && well < passage->accepted;
    return unheard > 0;
}

/* --- the end --- */

/* retry makes a second attempt at the first question of a passage: the connection had perhaps been
 * idle, and the server has just closed it. */
static bool retry(struct hop_passage *passage)
{
    struct delivery *delivery = &passage->delivery;
    struct passages *passages = passage->passages;
    struct verdict *verdict = &delivery->recipients[0].verdict;
    bool tried = delivery->peer[0] != '\0'; /* else there is nobody */
    if (!tried || passage->retried || delivery->recipient_count != 1 || passages->stopping ||
        verdict->kind == VERDICT_REFUSED)
        return false;
    passage->retried = true;
    memset(verdict, 0, sizeof(*verdict));
    delivery->client = NULL;
    delivery->peer[0] = '\0';
    passage->alive = true;
    passages->alive_count++;
    destinations_deliver(passages->options.destinations, passage->destination, delivery);
    return true;
}

static void end_text(struct hop_passage *passage)
{
    struct hop_question *question = passage->question;
    /* Given up or not: what the next hop has said for some of them holds. */
    if (judge_text(passage) && passage->delivery.data_sent) {
        question->passed = true;
        passage->passages->counters.passed++;
        outcome_log_doubt(passage->passages->options.log, passage->session_id, &passage->delivery);
    }
    give(passage, true);
}

/* delivered: the delivery is over, because the text has its verdicts, or MAIL or the whole
 * destination was refused, or the connection is gone, or it was given up. */
static void delivered(struct delivery *delivery)
{
    struct hop_passage *passage = delivery->user;
    struct hop_question *question = passage->question;
    CHECK(passage->alive);
    passage->alive = false;
    passage->passages->alive_count--;
    list_remove(&passage->resting);
    if (question != NULL && question->ask == HOP_TEXT) {
        end_text(passage);
    } else if (question != NULL) {
        const struct verdict *verdict =
            &delivery->recipients[delivery->recipient_count - 1].verdict;
        if (retry(passage))
            return;
        patience_judge(question, verdict);
        if (question->answer != HOP_REFUSED)
            question->answer = HOP_UNREACHABLE;
        give(passage, true);
    }
    settle(passage);
}

void passages_ask(struct passages *passages, struct hop_question *question, uint64_t now_us)
{
    switch (question->ask) {
    case HOP_RECIPIENT: ask_recipient(passages, question, now_us); return;
    case HOP_TEXT: ask_text(passages, question, now_us); return;
    case HOP_END:
        CHECK(question->passage != NULL && question->passage->held);
        leave(question->passage);
        question->answer = HOP_ACCEPTED;
        question->passage = NULL;
        hop_return(question);
        return;
    case HOP_CALLAHEAD: break;
    }
    CHECK(false);
}

/* --- time --- */

static struct hop_passage *longest_resting(const struct passages *passages)
{
    struct list_node *node = list_first(&passages->resting);
    return node == NULL ? NULL : list_entry(node, struct hop_passage, resting);
}

static uint64_t rests_until_us(const struct hop_passage *passage)
{
    return passage->rested_us + PASSAGE_IDLE_S * UINT64_C(1000000);
}

/* look ends those who rest where others wait for a connection: of neighbours there one at a time.
 */
static void look(struct passages *passages, uint64_t now_us)
{
    uint32_t freed = 0;
    struct list_node *next, *node = passages->resting.head.next;
    passages->look_us = now_us + LOOK_US;
    for (; node != &passages->resting.head; node = next) {
        struct hop_passage *passage = list_entry(node, struct hop_passage, resting);
        next = node->next;
        if (passage->rested_us + PASSAGE_CROWDED_S * UINT64_C(1000000) > now_us)
            return;
        if (passage->destination == freed ||
            !destinations_crowded(passages->options.destinations, passage->destination))
            continue;
        freed = passage->destination;
        give_up(passage);
    }
}

void passages_turn(struct passages *passages, uint64_t now_us)
{
    struct hop_question *question;
    struct hop_passage *passage;
    while ((question = patience_expired(&passages->patience, now_us)) != NULL)
        give_up(question->passage);
    while ((passage = longest_resting(passages)) != NULL && rests_until_us(passage) <= now_us)
        give_up(passage);
    if (passages->look_us <= now_us)
        look(passages, now_us);
}

uint64_t passages_next_us(const struct passages *passages)
{
    const struct hop_passage *passage = longest_resting(passages);
    uint64_t next_us = patience_next_us(&passages->patience);
    uint64_t idle_us = passage == NULL ? UINT64_MAX : rests_until_us(passage);
    next_us = idle_us < next_us ? idle_us : next_us;
    if (passage == NULL)
        return next_us;
    uint64_t rested_us = passage->rested_us + PASSAGE_CROWDED_S * UINT64_C(1000000);
    uint64_t look_us = rested_us > passages->look_us ? rested_us : passages->look_us;
    return look_us < next_us ? look_us : next_us;
}

void passages_stop(struct passages *passages)
{
    passages->stopping = true;
    passages_turn(passages, UINT64_MAX);
}
