/* The messages that are being tried, the files that they wait for, and the outcomes. All recipients
 * of a message that are due are tried together; what is left of it then waits for one common next
 * attempt. */
#include "gateway/deliver/attempts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/id.h"
#include "gateway/deliver/maildir.h"

enum {
    TURN_MESSAGES = 1024, /* in one round, so that a reload or a stop need not wait long */
    BATCH_OCTETS = 8 * 1024 * 1024, /* text in a batch of files, after which it is committed */
    MAILBOX_MAX = 320,              /* of it are kept for the log */
    HEAD_SIZE = 4096,        /* header fields in front of a text that go out in one write with it */
    MOVING_US = 1000 * 1000, /* a message that is being moved is looked at again after this */
    /* What a round may note beyond the recipients of the message in hand: for each file its
       outcome, for each message its end. */
    LEDGER_SPARE = 2 * MAILDIR_FILES + 2,
};

static_assert((int)LEDGER_ITEMS > (int)LIMIT_RECIPIENTS + (int)LEDGER_SPARE, "one message fits");

/* A message in hand. */
struct attempt {
    struct queue_entry *entry;
    uint64_t arrival_us; /* wall time */
    uint64_t delay_us;   /* until the next attempt, should this one fail; UINT64_MAX: hold */
    uint64_t next_s;     /* the same as wall time */
    uint16_t number;     /* of this attempt, from 1 */
    uint32_t files;      /* of it in the batch, or that were */
};

struct attempt_file {
    uint32_t attempt; /* index in the list */
    uint32_t recipient;
    uint32_t mailbox_len;
    uint8_t mailbox[MAILBOX_MAX];
};

struct attempts {
    struct attempts_options options;
    const struct routes *routes; /* during a round */
    uint64_t now_us, wall_us;
    struct maildir *maildir;
    struct spool_reader reader; /* its memory is used again and again */
    struct attempts_counts counts;
    struct folder folder;
    uint32_t count, file_count;
    struct attempt list[MAILDIR_FILES + 1];
    struct attempt_file files[MAILDIR_FILES];
};

/* Text on its way from the spool into files. */
struct pour {
    struct maildir *maildir;
    uint32_t first;
    size_t head_len; /* header fields not written yet */
    uint8_t head[HEAD_SIZE];
};

static void discard(struct attempts *attempts, struct queue_entry *entry);
static void try_message(struct attempts *attempts, struct queue_entry *entry);
static void plan(struct attempts *attempts, struct attempt *attempt, struct queue_entry *entry);
static void try_all(struct attempts *attempts, struct attempt *attempt,
                    const struct envelope *envelope);
static void try_recipient(struct attempts *attempts, struct attempt *attempt, uint32_t recipient,
                          struct bytes mailbox);
static void pour_text(struct attempts *attempts, const struct envelope *envelope, uint32_t first);
static int pour_piece(void *user, struct bytes text);
static void commit(struct attempts *attempts);
static void finish_all(struct attempts *attempts);
static void finish(struct attempts *attempts, struct attempt *attempt);
static void delivered(struct attempts *attempts, struct attempt *attempt, uint32_t recipient,
                      struct bytes mailbox, const char *target);
static void failed(struct attempts *attempts, struct attempt *attempt, struct bytes mailbox,
                   const char *target, const char *step, int error);
static void note(struct attempts *attempts, const struct queue_entry *entry, uint32_t recipient,
                 enum record_outcome outcome, uint64_t next_s);
static struct log_line begin_line(struct attempts *attempts, enum log_level level,
                                  const char *event, const struct attempt *attempt);

struct attempts *attempts_new(const struct attempts_options *options)
{
    struct attempts *attempts = calloc(1, sizeof *attempts);
    if (attempts == NULL)
        return NULL;
    attempts->options = *options;
    attempts->maildir = maildir_new(options->hostname);
    if (attempts->maildir == NULL) {
        free(attempts);
        return NULL;
    }
    return attempts;
}

void attempts_free(struct attempts *attempts)
{
    if (attempts == NULL)
        return;
    spool_read_close(&attempts->reader);
    maildir_free(attempts->maildir);
    free(attempts);
}

uint32_t attempts_make(struct attempts *attempts, const struct routes *routes, bool discard_only,
                       uint64_t now_us)
{
    uint32_t taken = 0;

    attempts->routes = routes;
    attempts->now_us = now_us;
    attempts->wall_us = clock_wall_us();
    while (taken < TURN_MESSAGES) {
        if (ledger_room(attempts->options.ledger) < LIMIT_RECIPIENTS + LEDGER_SPARE)
            break;
        struct queue_entry *entry = queue_take(attempts->options.queue, now_us);
        if (entry == NULL)
            break;
        taken++;
        if (entry->moving)
            queue_wait(attempts->options.queue, entry, now_us + MOVING_US);
        else if (discard_only && !entry->unseen)
            discard(attempts, entry);
        else
            try_message(attempts, entry);
        if (maildir_room(attempts->maildir) == 0 ||
            maildir_octets(attempts->maildir) >= BATCH_OCTETS)
            break;
    }
    commit(attempts);
    finish_all(attempts);
    return taken;
}

struct attempts_counts attempts_counts(const struct attempts *attempts)
{
    return attempts->counts;
}

static void discard(struct attempts *attempts, struct queue_entry *entry)
{
    struct log_port *log = attempts->options.log;

    attempts->counts.delivered += entry->open_count;
    if (log_wanted(log, LOG_INFO)) {
        char id[ID_TEXT_LEN + 1];
        id_format(entry->message.message_id, id);
        struct log_line line = log_begin(log, LOG_INFO, "delivered");
        log_bytes(&line, "id", id, ID_TEXT_LEN);
        log_string(&line, "target", "discard");
        log_number(&line, "recipients", entry->open_count);
        log_number(&line, "ms", (attempts->now_us - entry->queued_us) / 1000);
        log_end(&line);
    }
    ledger_finish(attempts->options.ledger, &entry->message, attempts->now_us);
    queue_remove(attempts->options.queue, entry);
}

static void try_message(struct attempts *attempts, struct queue_entry *entry)
{
    struct envelope envelope;

    /* A message that does not fit into the batch gets one of its own; if it needs several, it is
     * alone in each. */
    if (entry->open_count > maildir_room(attempts->maildir)) {
        commit(attempts);
        finish_all(attempts);
    }
    struct attempt *attempt = &attempts->list[attempts->count++];
    plan(attempts, attempt, entry);
    int error = spool_read(attempts->options.spool, &entry->message, &attempts->reader, &envelope);
    if (error == 0 && envelope.recipient_count != entry->message.recipient_count)
        error = -EBADMSG;
    if (error == 0) {
        attempt->arrival_us = envelope.arrival_us;
        try_all(attempts, attempt, &envelope);
    } else {
        failed(attempts, attempt, BYTES(""), "spool", "read envelope", error);
    }
    if (attempt->files == 0) {
        attempts->count--;
        finish(attempts, attempt);
    }
}

/* What happens if this attempt fails is settled before it begins: when the next is due, or that it
 * was the last. The last one is made when the lifetime ends. */
static void plan(struct attempts *attempts, struct attempt *attempt, struct queue_entry *entry)
{
    uint64_t now_s = attempts->wall_us / 1000000;
    uint64_t end_s = entry->message.arrival_s + attempts->options.lifetime_s;

    if (entry->message.attempts < UINT16_MAX)
        entry->message.attempts++;
    *attempt = (struct attempt){.entry = entry,
                                .number = entry->message.attempts,
                                .delay_us = UINT64_MAX,
                                .next_s = LEDGER_HELD_S};
    if (now_s >= end_s)
        return;
    attempt->delay_us = queue_delay_us(attempts->options.queue, attempt->number);
    if (attempt->delay_us > (end_s - now_s) * 1000000)
        attempt->delay_us = (end_s - now_s) * 1000000;
    attempt->next_s = now_s + (attempt->delay_us + 999999) / 1000000;
}

static void try_all(struct attempts *attempts, struct attempt *attempt,
                    const struct envelope *envelope)
{
    struct bytes form = spool_read_form(&attempts->reader);
    uint32_t first = attempts->file_count;
    size_t cursor = 0;

    for (uint32_t i = 0; i < envelope->recipient_count; i++) {
        struct bytes mailbox = envelope_recipient_next(form, &cursor).forward_path;
        if (queue_finished(attempt->entry, i))
            continue;
        if (maildir_room(attempts->maildir) == 0) {
            pour_text(attempts, envelope, first);
            commit(attempts);
            first = 0;
        }
        try_recipient(attempts, attempt, i, mailbox);
    }
    pour_text(attempts, envelope, first);
}

static void try_recipient(struct attempts *attempts, struct attempt *attempt, uint32_t recipient,
                          struct bytes mailbox)
{
    const struct route *route = routes_find(attempts->routes, mailbox);

    if (route == NULL) {
        failed(attempts, attempt, mailbox, "none", "the domain is not configured", 0);
        return;
    }
    if (route->kind == ROUTE_DISCARD) {
        delivered(attempts, attempt, recipient, mailbox, "discard");
        return;
    }
    int error = folder_make(&attempts->folder, route->maildir, route->domain, mailbox);
    if (error != 0) {
        failed(attempts, attempt, mailbox, "maildir", "name mail folder", error);
        return;
    }
    uint32_t index =
        maildir_add(attempts->maildir, &attempts->folder, attempt->entry->message.message_id);
    CHECK(index == attempts->file_count);
    struct attempt_file *file = &attempts->files[attempts->file_count++];
    file->attempt = (uint32_t)(attempt - attempts->list);
    file->recipient = recipient;
    file->mailbox_len = mailbox.len < MAILBOX_MAX ? (uint32_t)mailbox.len : MAILBOX_MAX;
    memcpy(file->mailbox, mailbox.data, file->mailbox_len);
    attempt->files++;
}

/* Reads the text once and writes it to all files from `first` on: Return-Path (RFC 5321 4.4), what
 * we added at reception, and the text as it came. */
static void pour_text(struct attempts *attempts, const struct envelope *envelope, uint32_t first)
{
    struct pour pour = {.maildir = attempts->maildir, .first = first};
    const struct bytes parts[] = {BYTES("Return-Path: <"), envelope->reverse_path, BYTES(">\r\n"),
                                  envelope->added};
    int error = 0;

    if (first == attempts->file_count)
        return;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && error == 0; i++) {
        if (parts[i].len > HEAD_SIZE - pour.head_len) {
            error = pour_piece(&pour, parts[i]);
        } else if (parts[i].len > 0) {
            memcpy(pour.head + pour.head_len, parts[i].data, parts[i].len);
            pour.head_len += parts[i].len;
        }
    }
    if (error == 0)
        error = spool_read_text(&attempts->reader, pour_piece, &pour);
    if (error == 0 && pour.head_len > 0) /* a message without text */
        error = pour_piece(&pour, bytes_make(NULL, 0));
    if (error == 0)
        return;
    for (uint32_t i = first; i < attempts->file_count; i++)
        maildir_fail(attempts->maildir, i, error, "read text");
}

static int pour_piece(void *user, struct bytes text)
{
    struct pour *pour = user;
    const struct bytes texts[] = {bytes_make(pour->head, pour->head_len), text};

    pour->head_len = 0;
    return maildir_write(pour->maildir, pour->first, texts, 2) ? 0 : -ECANCELED;
}

/* Makes the files of the batch durable and notes what became of each. */
static void commit(struct attempts *attempts)
{
    if (attempts->file_count == 0)
        return;
    maildir_commit(attempts->maildir);
    attempts->wall_us = clock_wall_us();
    for (uint32_t i = 0; i < attempts->file_count; i++) {
        const struct attempt_file *file = &attempts->files[i];
        struct attempt *attempt = &attempts->list[file->attempt];
        struct maildir_result result = maildir_result(attempts->maildir, i);
        struct bytes mailbox = bytes_make(file->mailbox, file->mailbox_len);
        if (result.error == 0)
            delivered(attempts, attempt, file->recipient, mailbox, "maildir");
        else
            failed(attempts, attempt, mailbox, "maildir", result.step, result.error);
    }
    attempts->file_count = 0;
    ledger_hurry(attempts->options.ledger);
}

static void finish_all(struct attempts *attempts)
{
    for (uint32_t i = 0; i < attempts->count; i++)
        finish(attempts, &attempts->list[i]);
    attempts->count = 0;
}

/* Decides where the message goes from here: out of the queue, back into it, or on hold. */
static void finish(struct attempts *attempts, struct attempt *attempt)
{
    struct queue_entry *entry = attempt->entry;
    struct queue *queue = attempts->options.queue;

    if (entry->open_count == 0) {
        ledger_finish(attempts->options.ledger, &entry->message, attempts->now_us);
        queue_remove(queue, entry);
        return;
    }
    uint32_t open = 0;
    while (open + 1 < entry->message.recipient_count && queue_finished(entry, open))
        open++;
    note(attempts, entry, open, RECORD_DEFERRED, attempt->next_s);
    if (attempt->delay_us == UINT64_MAX) {
        queue_hold(queue, entry);
        attempts->counts.expired++;
    } else {
        queue_wait(queue, entry, attempts->now_us + attempt->delay_us);
    }
}

static void delivered(struct attempts *attempts, struct attempt *attempt, uint32_t recipient,
                      struct bytes mailbox, const char *target)
{
    attempts->counts.delivered++;
    queue_finish(attempt->entry, recipient);
    /* The last recipient is noted by the end of the message. */
    if (attempt->entry->open_count > 0)
        note(attempts, attempt->entry, recipient, RECORD_DELIVERED, 0);
    struct log_line line = begin_line(attempts, LOG_INFO, "delivered", attempt);
    log_bytes(&line, "to", mailbox.data, mailbox.len);
    log_string(&line, "target", target);
    uint64_t wall_us = attempts->wall_us;
    log_number(&line, "ms",
               wall_us > attempt->arrival_us ? (wall_us - attempt->arrival_us) / 1000 : 0);
    log_end(&line);
}

/* With `error` 0 the step says it all. */
static void failed(struct attempts *attempts, struct attempt *attempt, struct bytes mailbox,
                   const char *target, const char *step, int error)
{
    bool hold = attempt->delay_us == UINT64_MAX;
    char text[160];

    attempts->counts.deferred++;
    snprintf(text, sizeof text, "%s%s%s", step, error == 0 ? "" : ": ",
             error == 0 ? "" : strerrordesc_np(-error));
    struct log_line line =
        begin_line(attempts, hold ? LOG_ERROR : LOG_WARN, hold ? "held" : "deferred", attempt);
    log_bytes(&line, "to", mailbox.data, mailbox.len);
    log_string(&line, "target", target);
    log_number(&line, "attempt", attempt->number);
    if (!hold)
        log_number(&line, "next_s", attempt->delay_us / 1000000);
    log_string(&line, "error", text);
    log_end(&line);
}

static void note(struct attempts *attempts, const struct queue_entry *entry, uint32_t recipient,
                 enum record_outcome outcome, uint64_t next_s)
{
    struct record_done done = {.message_id = entry->message.message_id,
                               .recipient = recipient,
                               .attempts = entry->message.attempts,
                               .outcome = (uint8_t)outcome,
                               .next_attempt_s = next_s};
    /* A spool may hold a message with more recipients than are accepted today. Without this note a
     * crash means a second delivery to this one; the room left is for the last word on each
     * message. */
    if (outcome == RECORD_DELIVERED && ledger_room(attempts->options.ledger) <= LEDGER_SPARE)
        return;
    ledger_note(attempts->options.ledger, &done, attempts->now_us);
}

static struct log_line begin_line(struct attempts *attempts, enum log_level level,
                                  const char *event, const struct attempt *attempt)
{
    char id[ID_TEXT_LEN + 1];
    struct log_line line = log_begin(attempts->options.log, level, event);
    id_format(attempt->entry->message.message_id, id);
    log_bytes(&line, "id", id, ID_TEXT_LEN);
    return line;
}
