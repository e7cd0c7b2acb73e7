/* Values are escaped by the log, so what a next hop or a client wrote can't add keys or lines. */
#include "gateway/deliver/outcome_log.h"

#include <stdio.h>

#include "gateway/base/id.h"

static struct log_line begin(struct log_port *log, enum log_level level, const char *event,
                             uint64_t message_id)
{
    char id[ID_TEXT_LEN + 1];
    struct log_line line = log_begin_audit(log, level, event);
    id_format(message_id, id);
    log_bytes(&line, "id", id, ID_TEXT_LEN);
    return line;
}

/* A reply as the next hop gave it, or what we have to say ourselves. */
static void add_verdict(struct log_line *line, const struct verdict *verdict)
{
    const struct reply_status *status = &verdict->status;
    char text[VERDICT_TEXT_MAX + 40], numbers[24] = "";

    if (status->class != 0)
        snprintf(numbers, sizeof numbers, "%u.%u.%u", status->class, status->subject,
                 status->detail);
    if (verdict->code != 0) {
        snprintf(text, sizeof text, "%u %s%s%s", verdict->code, numbers,
                 numbers[0] == '\0' ? "" : " ", verdict->text);
        log_string(line, "reply", text);
        return;
    }
    log_string(line, "error", verdict->text);
    if (numbers[0] != '\0')
        log_string(line, "status", numbers);
}

void outcome_log_discarded(struct log_port *log, uint64_t message_id, uint32_t recipient_count,
                           uint64_t took_ms)
{
    struct log_line line = begin(log, LOG_INFO, "delivered", message_id);
    log_string(&line, "target", "discard");
    log_number(&line, "recipients", recipient_count);
    log_number(&line, "ms", took_ms);
    log_end(&line);
}

void outcome_log_delivered(struct log_port *log, uint64_t message_id, struct bytes mailbox,
                           const char *target, uint64_t took_ms, const struct delivery *delivery,
                           const struct verdict *verdict)
{
    struct log_line line = begin(log, LOG_INFO, "delivered", message_id);

    log_bytes(&line, "to", mailbox.data, mailbox.len);
    log_string(&line, "target", target);
    if (delivery != NULL && delivery->peer[0] != '\0')
        log_string(&line, "peer", delivery->peer);
    if (delivery != NULL && delivery->tls_version != 0)
        log_string(&line, "tls", delivery->tls_version == 13 ? "1.3" : "1.2");
    log_number(&line, "ms", took_ms);
    if (verdict != NULL && verdict->code != 0)
        add_verdict(&line, verdict);
    log_end(&line);
}

void outcome_log_failed(struct log_port *log, const struct outcome_failure *failure)
{
    const struct delivery_recipient *recipient = failure->recipient;
    bool refused = recipient->verdict.kind == VERDICT_REFUSED;
    bool last = failure->delay_us == UINT64_MAX;
    bool held = !refused && failure->held;
    bool lost = failure->nobody && (refused || (last && !held));
    const char *event = refused ? "refused" : held ? "held" : last ? "expired" : "deferred";
    struct log_line line =
        begin(log, lost || held ? LOG_ERROR : LOG_WARN, event, failure->message_id);

    log_bytes(&line, "to", recipient->forward_path.data, recipient->forward_path.len);
    log_string(&line, "target", failure->target);
    if (failure->peer[0] != '\0')
        log_string(&line, "peer", failure->peer);
    if (!refused)
        log_number(&line, "attempt", failure->attempts);
    if (!refused && !last)
        log_number(&line, "next_s", failure->delay_us / 1000000);
    add_verdict(&line, &recipient->verdict);
    if (lost)
        log_string(&line, "notification", "none: the reverse-path is empty");
    log_end(&line);
}

void outcome_log_unreadable(struct log_port *log, uint64_t message_id, const char *error,
                            uint32_t attempts, uint64_t delay_us)
{
    bool held = delay_us == UINT64_MAX;
    struct log_line line =
        begin(log, held ? LOG_ERROR : LOG_WARN, held ? "held" : "deferred", message_id);

    log_string(&line, "to", "");
    log_string(&line, "target", "spool");
    log_number(&line, "attempt", attempts);
    if (!held)
        log_number(&line, "next_s", delay_us / 1000000);
    log_string(&line, "error", error);
    log_end(&line);
}

static void log_session(struct log_line *line, uint64_t session_id)
{
    char id[ID_TEXT_LEN + 1];
    id_format(session_id, id);
    log_bytes(line, "session", id, ID_TEXT_LEN);
}

void outcome_log_passed(struct log_port *log, uint64_t session_id, const struct delivery *delivery,
                        const struct delivery_recipient *recipient, enum hop_answer answer)
{
    static const char *const events[] = {
        [HOP_ACCEPTED] = "delivered",
        [HOP_DEFERRED] = "through_deferred",
        [HOP_REFUSED] = "through_refused",
        [HOP_UNREACHABLE] = "through_failed",
    };
    enum log_level level = answer == HOP_ACCEPTED ? LOG_INFO : LOG_WARN;
    struct log_line line = begin(log, level, events[answer], delivery->message_id);
    log_session(&line, session_id);
    log_bytes(&line, "to", recipient->forward_path.data, recipient->forward_path.len);
    log_string(&line, "way", "through");
    log_string(&line, "peer", delivery->peer);
    log_number(&line, "code", recipient->verdict.code);
    log_string(&line, "text", recipient->verdict.text);
    log_end(&line);
}

void outcome_log_doubt(struct log_port *log, uint64_t session_id, const struct delivery *delivery)
{
    struct log_line line = begin(log, LOG_WARN, "through_doubt", delivery->message_id);
    log_session(&line, session_id);
    log_string(&line, "peer", delivery->peer);
    log_end(&line);
}

void outcome_log_removed(struct log_port *log, uint64_t message_id, struct bytes mailbox)
{
    struct log_line line = begin(log, LOG_WARN, "removed", message_id);
    log_bytes(&line, "to", mailbox.data, mailbox.len);
    log_end(&line);
}
