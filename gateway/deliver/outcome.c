/* A consignment that came back is settled in one go, unless somebody is to be told of it: then it
 * stays TAKEN in a round until the notification is durable, and is settled after that. */
#include "gateway/deliver/outcome.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/deliver/outcome_inside.h"
#include "gateway/deliver/outcome_log.h"
#include "gateway/deliver/verdict.h"

enum { BEGIN_SPARE = 16384 /* room in the ledger below which nothing new is begun */ };

static_assert((int)LEDGER_ITEMS > 2 * (int)BEGIN_SPARE, "there is room to begin");

struct notice {
    struct round *round;
    enum record_outcome outcome; /* of the recipients that it is about; 0: they stay open */
};

enum { NOTICES = 3 /* delivered, refused, deferred */ };

/* A consignment whose notifications are on their way. */
struct round {
    struct list_node node;
    struct outcome *outcome;
    struct consignment *consignment;
    struct outcome_plan plan;
    uint32_t pending;
    struct notice notices[NOTICES];
};

static void tell_all(struct outcome *outcome, struct consign *consign, enum outcome_way way,
                     const char *target, struct outcome_plan *plan);

/* --- life --- */

struct outcome *outcome_new(const struct outcome_options *options)
{
    struct outcome *outcome = calloc(1, sizeof *outcome);
    if (outcome == NULL)
        return NULL;
    outcome->options = *options;
    list_init(&outcome->rounds);
    return outcome;
}

void outcome_free(struct outcome *outcome)
{
    struct list_node *node;
    if (outcome == NULL)
        return;
    while ((node = list_pop(&outcome->rounds)) != NULL)
        free(list_entry(node, struct round, node));
    free(outcome);
}

bool outcome_room(const struct outcome *outcome)
{
    return ledger_room(outcome->options.ledger) > BEGIN_SPARE;
}

struct outcome_counters outcome_counters(const struct outcome *outcome)
{
    return outcome->counters;
}

/* --- what comes in --- */

void outcome_discard(struct outcome *outcome, struct consignment *unsorted)
{
    const struct queue_message *message = unsorted->message;
    struct log_port *log = outcome->options.log;

    CHECK(outcome_sole(unsorted));
    outcome->counters.delivered += message->open_count;
    if (log_wanted(log, LOG_INFO)) {
        uint64_t now_us = outcome->options.worker->now_us;
        uint64_t queued_us = (uint64_t)message->queued_s * 1000000;
        outcome_log_discarded(log, message->spool.message_id, message->open_count,
                              now_us > queued_us ? (now_us - queued_us) / 1000 : 0);
    }
    ledger_finish(outcome->options.ledger, &message->spool, outcome->options.worker->now_us);
    outcome_set_reason(outcome, unsorted, NULL);
    (void)consignment_drop(outcome->options.queue, unsorted);
}

static void log_delivered(const struct outcome *outcome, uint64_t message_id, struct bytes mailbox,
                          const char *target, uint64_t arrival_us, const struct delivery *delivery,
                          const struct verdict *verdict)
{
    uint64_t wall_us = outcome->options.worker->now_wall_us;
    uint64_t took_us = wall_us > arrival_us ? wall_us - arrival_us : 0;
    outcome_log_delivered(outcome->options.log, message_id, mailbox, target, took_us / 1000,
                          delivery, verdict);
}

static void log_failed(const struct outcome *outcome, const struct consign *consign,
                       const struct delivery_recipient *recipient, const char *target,
                       const struct outcome_plan *plan)
{
    outcome_log_failed(outcome->options.log,
                       &(struct outcome_failure){
                           .message_id = consign->envelope.message_id,
                           .recipient = recipient,
                           .target = target,
                           .peer = consign->delivery.peer,
                           .attempts = consign->consignment->attempts,
                           .delay_us = plan->last ? UINT64_MAX : plan->delay_us,
                           .held = plan->hold,
                           .nobody = consign->envelope.reverse_path.len == 0,
                       });
}

/* count_failed logs and counts the recipients with a verdict of this kind: REFUSED or DEFERRED. */
static void count_failed(struct outcome *outcome, const struct consign *consign,
                         enum verdict_kind kind, const char *target,
                         const struct outcome_plan *plan)
{
    const struct delivery *delivery = &consign->delivery;

    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        if (delivery->recipients[i].verdict.kind != kind)
            continue;
        log_failed(outcome, consign, &delivery->recipients[i], target, plan);
        outcome->counters.refused += kind == VERDICT_REFUSED || (plan->last && !plan->hold);
        outcome->counters.deferred += kind == VERDICT_DEFERRED;
    }
}

void outcome_delivery(struct outcome *outcome, struct consign *consign, enum outcome_way way,
                      const char *target)
{
    const struct delivery *delivery = &consign->delivery;
    struct consignment *consignment = consign->consignment;
    struct outcome_plan plan = {0};
    const struct verdict *reason = NULL;
    char text[REASON_TEXT_MAX];

    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        const struct verdict *verdict = &delivery->recipients[i].verdict;
        CHECK(verdict->kind >= VERDICT_DELIVERED);
        if (verdict->kind == VERDICT_DEFERRED)
            reason = verdict;
    }
    if (reason != NULL) {
        plan = outcome_plan(outcome, consignment, way);
        outcome_set_reason(outcome, consignment, verdict_say(reason, text, sizeof text));
    }
    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        const struct delivery_recipient *recipient = &delivery->recipients[i];
        if (recipient->verdict.kind != VERDICT_DELIVERED)
            continue;
        log_delivered(outcome, delivery->message_id, recipient->forward_path, target,
                      consign->envelope.arrival_us, delivery, &recipient->verdict);
        outcome->counters.delivered++;
    }
    if (way != OUTCOME_DISCARD)
        ledger_hurry(outcome->options.ledger);
    tell_all(outcome, consign, way, target, &plan);
}

struct consign *outcome_open(struct outcome *outcome, struct consignment *consignment,
                             const struct verdict *verdict)
{
    const struct courier_rules *rules = outcome->options.rules;
    struct consign *consign;
    int error =
        consign_open(outcome->options.consigns, consignment, rules->routes, NULL, 0, &consign);
    if (error != 0) {
        outcome_unreadable(outcome, consignment, error);
        return NULL;
    }
    for (uint32_t i = 0; i < consign->delivery.recipient_count; i++)
        consign->delivery.recipients[i].verdict = *verdict;
    return consign;
}

void outcome_failed(struct outcome *outcome, struct consignment *consignment, enum outcome_way way,
                    const char *target, const struct verdict *why)
{
    struct consign *consign = outcome_open(outcome, consignment, why);
    if (consign != NULL)
        outcome_delivery(outcome, consign, way, target);
}

void outcome_unreadable(struct outcome *outcome, struct consignment *consignment, int error)
{
    char text[160];

    if (error == -ENOMEM) {
        outcome_put_off(outcome, consignment, OUTCOME_LATER_US);
        return;
    }
    struct outcome_plan plan = outcome_plan(outcome, consignment, OUTCOME_HOMELESS);
    snprintf(text, sizeof text, "read envelope: %s", strerrordesc_np(-error));
    outcome_set_reason(outcome, consignment, text);
    outcome->counters.deferred++;
    outcome_log_unreadable(outcome->options.log, consignment->message->spool.message_id, text,
                           consignment->attempts, plan.hold ? UINT64_MAX : plan.delay_us);
    outcome_settle(outcome, consignment, &plan);
}

/* The verdict of a recipient whose file could not be stored. */
static struct verdict store_verdict(const struct store_result *result)
{
    bool full = result->error == -EDQUOT;
    struct verdict verdict = {.kind = result->error == 0 ? VERDICT_DELIVERED : VERDICT_DEFERRED};

    if (result->error == 0)
        return verdict;
    verdict.status = (struct reply_status){4, full ? 2 : 3, full ? 2 : 0};
    snprintf(verdict.text, sizeof verdict.text, "%s: %s", result->step,
             strerrordesc_np(-result->error));
    return verdict;
}

void outcome_stored(struct outcome *outcome, const struct store_report *report)
{
    struct consignment *consignment = report->consignment;
    uint64_t id = consignment->message->spool.message_id;
    struct consign *consign;
    bool plain = true;

    if (report->error != 0) {
        outcome_unreadable(outcome, consignment, report->error);
        return;
    }
    for (uint32_t i = 0; i < report->count; i++)
        plain = plain && report->results[i].error == 0 && report->results[i].notify == 0;
    int error = plain ? -ECANCELED
                      : consign_open_these(outcome->options.consigns, consignment,
                                           report->recipients, report->count, &consign);
    if (error == 0) {
        struct delivery *delivery = &consign->delivery;
        CHECK(delivery->recipient_count == report->count);
        for (uint32_t i = 0; i < report->count; i++)
            delivery->recipients[i].verdict = store_verdict(&report->results[i]);
        outcome_delivery(outcome, consign, OUTCOME_STORED, "maildir");
        return;
    }
    ledger_hurry(outcome->options.ledger);
    for (uint32_t i = 0; i < report->count; i++) {
        const struct store_result *result = &report->results[i];
        if (result->error != 0)
            continue;
        log_delivered(outcome, id, result->mailbox, "maildir", report->arrival_us, NULL, NULL);
        outcome->counters.delivered++;
        outcome_finish(outcome, consignment, report->recipients[i], RECORD_DELIVERED);
    }
    if (plain || consignment->recipient_count == 0)
        outcome_settle(outcome, consignment, &(struct outcome_plan){.delay_us = OUTCOME_LATER_US});
    else
        outcome_unreadable(outcome, consignment, error);
}

/* --- notifications --- */

static void end_round(struct round *round)
{
    struct outcome *outcome = round->outcome;
    list_remove(&round->node);
    outcome_settle(outcome, round->consignment, &round->plan);
    free(round);
}

static void told(const struct notify_told *told)
{
    const struct notice *notice = told->user;
    struct round *round = notice->round;

    for (uint32_t i = 0; notice->outcome != 0 && i < told->count; i++)
        outcome_finish(round->outcome, round->consignment, told->indexes[i], notice->outcome);
    ledger_hurry(round->outcome->options.ledger);
    CHECK(round->pending > 0);
    if (--round->pending == 0)
        end_round(round);
}

static void finish_kind(struct outcome *outcome, const struct consign *consign,
                        enum verdict_kind kind, enum record_outcome what)
{
    const struct delivery *delivery = &consign->delivery;
    for (uint32_t i = 0; i < delivery->recipient_count; i++)
        if (delivery->recipients[i].verdict.kind == kind)
            outcome_finish(outcome, consign->consignment, delivery->recipients[i].index, what);
}

/* What was not taken is tried once more, later: what else would come to the sender? */
static void tell_later(struct outcome *outcome, struct consignment *consignment,
                       struct outcome_plan *plan)
{
    plan->delay_us = OUTCOME_LATER_US;
    outcome_set_reason(outcome, consignment, "too many notifications wait");
}

/* Tells the sender about the recipients with a verdict of this kind, or finishes them if nobody is
 * to be told. `outcome` 0: they stay open whatever happens. False: it was put off. */
static bool tell(struct round *round, struct consign *consign, enum bounce_action action,
                 enum verdict_kind only, enum record_outcome what)
{
    struct outcome *outcome = round->outcome;
    const struct courier_rules *rules = outcome->options.rules;
    const struct spool_message *message = &round->consignment->message->spool;
    struct delivery *delivery = &consign->delivery;
    uint64_t end_s = spool_message_start_s(message) + rules->lifetime_s;
    struct notice *notice = &round->notices[only - VERDICT_DELIVERED];

    *notice = (struct notice){round, what};
    enum notify_result result =
        notify_add(outcome->options.notify, &(struct notify_event){
                                                .action = action,
                                                .message = message,
                                                .envelope = &consign->envelope,
                                                .directory = rules->directory,
                                                .recipients = delivery->recipients,
                                                .recipient_count = delivery->recipient_count,
                                                .only = only,
                                                .peer = delivery->peer,
                                                .retry_until_us = end_s * 1000000,
                                                .user = notice,
                                                .told = told,
                                            });
    if (result == NOTIFY_TAKEN) {
        outcome->counters.told = true;
        round->pending++;
        return true;
    }
    if (result == NOTIFY_LATER && only != VERDICT_DELIVERED)
        return false;
    if (what != 0)
        finish_kind(outcome, consign, only, what);
    return true;
}

static bool has(const struct delivery *delivery, enum verdict_kind kind, bool notify)
{
    for (uint32_t i = 0; i < delivery->recipient_count; i++)
        if (delivery->recipients[i].verdict.kind == kind &&
            (!notify || delivery->recipients[i].notify != 0))
            return true;
    return false;
}

/* Is it time to say that a message is delayed? Once for each. */
static bool warn_now(const struct outcome *outcome, struct queue_message *message)
{
    uint64_t now_s = outcome->options.worker->now_wall_us / 1000000;
    uint32_t after_s = outcome->options.rules->warn_after_s;

    if (after_s == 0 || message->warned || now_s < spool_message_start_s(&message->spool) + after_s)
        return false;
    message->warned = true;
    return true;
}

/* Is it time to say that it has not been delivered by the time that was asked for? Once for each
 * consignment. */
static bool late_now(const struct outcome *outcome, struct consignment *consignment)
{
    uint64_t now_s = outcome->options.worker->now_wall_us / 1000000;
    uint32_t by_s = consignment->message->by_s;

    if (by_s == 0 || now_s < by_s || consignment->late)
        return false;
    consignment->late = true;
    return true;
}

static void tell_of_failures(struct round *round, struct consign *consign, const char *target,
                             bool refused, bool over)
{
    struct outcome *outcome = round->outcome;
    const struct outcome_plan plan = round->plan;

    if (refused && tell(round, consign, BOUNCE_FAILED, VERDICT_REFUSED, RECORD_REFUSED))
        count_failed(outcome, consign, VERDICT_REFUSED, target, &plan);
    else if (refused)
        tell_later(outcome, round->consignment, &round->plan);
    if (over && tell(round, consign, BOUNCE_FAILED, VERDICT_DEFERRED, RECORD_EXPIRED))
        count_failed(outcome, consign, VERDICT_DEFERRED, target, &plan);
    else if (over)
        tell_later(outcome, round->consignment, &round->plan);
}

static void tell_of_delay_again(struct consignment *consignment, bool late)
{
    if (late)
        consignment->late = false;
    else
        consignment->message->warned = false;
}

/* Says to the sender what there is to say, finishes what is finished, closes the consignment, and
 * settles it, now or when the last notification is durable. Who is given up is logged and counted
 * only then: what is put off comes here again. */
static void tell_all(struct outcome *outcome, struct consign *consign, enum outcome_way way,
                     const char *target, struct outcome_plan *plan)
{
    const struct delivery *delivery = &consign->delivery;
    struct consignment *consignment = consign->consignment;
    bool quiet = way == OUTCOME_DISCARD || (way == OUTCOME_REMOTE && delivery->dsn_passed);
    bool relayed = way == OUTCOME_REMOTE && delivery->by_relayed;
    bool good_news = relayed ? has(delivery, VERDICT_DELIVERED, false)
                             : !quiet && has(delivery, VERDICT_DELIVERED, true);
    bool refused = has(delivery, VERDICT_REFUSED, false);
    bool deferred = has(delivery, VERDICT_DEFERRED, false);
    bool over = deferred && plan->last && !plan->hold;
    bool late = deferred && !plan->last && late_now(outcome, consignment);
    bool delayed = deferred && !plan->last && (warn_now(outcome, consignment->message) || late);
    const enum bounce_action success = way == OUTCOME_STORED ? BOUNCE_DELIVERED
                                       : relayed             ? BOUNCE_RELAYED_BY
                                                             : BOUNCE_RELAYED;
    struct round *round = NULL;

    if (deferred && !over)
        count_failed(outcome, consign, VERDICT_DEFERRED, target, plan);
    if (good_news || refused || over || delayed)
        round = calloc(1, sizeof *round);
    if (!good_news || round == NULL)
        finish_kind(outcome, consign, VERDICT_DELIVERED, RECORD_DELIVERED);
    if (round == NULL) {
        if (refused || over)
            tell_later(outcome, consignment, plan);
        if (delayed)
            tell_of_delay_again(consignment, late);
        consign_close(consign);
        outcome_settle(outcome, consignment, plan);
        return;
    }
    *round = (struct round){.outcome = outcome, .consignment = consignment, .plan = *plan};
    list_append(&outcome->rounds, &round->node);
    if (good_news)
        (void)tell(round, consign, success, VERDICT_DELIVERED, RECORD_DELIVERED);
    tell_of_failures(round, consign, target, refused, over);
    if (delayed && !tell(round, consign, BOUNCE_DELAYED, VERDICT_DEFERRED, 0))
        tell_of_delay_again(consignment, late);
    consign_close(consign);
    if (round->pending == 0)
        end_round(round);
}

void outcome_tell_late(struct outcome *outcome, struct consign *consign,
                       const struct outcome_plan *plan)
{
    struct consignment *consignment = consign->consignment;
    struct round *round = calloc(1, sizeof *round);

    if (round == NULL) {
        consign_close(consign);
        outcome_settle(outcome, consignment, plan);
        return;
    }
    *round = (struct round){.outcome = outcome, .consignment = consignment, .plan = *plan};
    list_append(&outcome->rounds, &round->node);
    consignment->late = tell(round, consign, BOUNCE_DELAYED, VERDICT_DEFERRED, 0);
    consign_close(consign);
    if (round->pending == 0)
        end_round(round);
}
