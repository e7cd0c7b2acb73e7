/* Each event is one piece of memory with everything that its notification needs but the original.
 * It is pending, then composed into a buffer (one at a time: only then is it known whether the
 * original can be read), then staged from there as the ring has room, then with the writer. What
 * the writer could not write is pending again, under a new id. */
#include "gateway/deliver/notify.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/id.h"
#include "gateway/base/limits.h"
#include "gateway/base/list.h"

enum {
    RETRY_US = 1000 * 1000,     /* after a failure */
    FULL_RING_US = 10 * 1000,   /* look again after this, if nothing wakes us before */
    RING_RESERVE = 128 * 1024,  /* staging room that is left to the ledger */
    BUFFER_KEPT = 1024 * 1024,  /* a larger one is not kept */
    EVENT_USUAL = 4096,         /* octets of an event of few recipients */
    ID_INDEX = LIMIT_PORTS - 1, /* of our ids; workers have the first LIMIT_WORKERS */
    PEER_SIZE = sizeof(((struct delivery *)NULL)->peer),
};

static_assert((int)LIMIT_WORKERS <= (int)ID_INDEX, "no worker makes the same ids");

/* An event; in the list of those that are pending, or with the writer. */
struct job {
    struct list_node node;
    struct notify *notify;
    size_t size;
    struct spool_message message;
    struct envelope envelope; /* of the original; its strings lie behind the job */
    enum bounce_action action;
    uint64_t retry_until_us;
    uint64_t id;                        /* of the notification, while it is staged */
    struct envelope_recipient *targets; /* whom it goes to */
    uint32_t target_count;
    struct bounce_recipient *recipients; /* to be told of */
    uint32_t recipient_count;
    uint32_t *indexes; /* all that the event is about */
    uint32_t index_count;
    char peer[PEER_SIZE];
    void *user;
    void (*told)(const struct notify_told *told);
};

struct notify {
    struct notify_options options;
    struct list pending, staged;
    uint32_t open;
    size_t octets; /* of the open ones */
    uint64_t sent;
    uint64_t id_last;
    uint64_t not_before_us;
    struct spool_reader reader;
    struct directory_expansion expansion;

    /* Of the first pending one, when `composed`. */
    bool composed;
    uint8_t *buffer;
    size_t buffer_len, buffer_capacity;
    size_t staged_len;
    uint32_t parts;
};

struct notify *notify_new(const struct notify_options *options)
{
    struct notify *notify = calloc(1, sizeof *notify);
    if (notify == NULL)
        return NULL;
    if (!directory_expansion_init(&notify->expansion, LIMIT_RECIPIENTS)) {
        free(notify);
        return NULL;
    }
    notify->options = *options;
    /* The next one is above every id that recovery saw. */
    notify->id_last = spool_message_id_min(options->spool) | ID_INDEX;
    list_init(&notify->pending);
    list_init(&notify->staged);
    return notify;
}

static void free_job(struct job *job)
{
    struct notify *notify = job->notify;
    list_remove(&job->node);
    notify->open--;
    notify->octets -= job->size;
    free(job);
}

void notify_free(struct notify *notify)
{
    if (notify == NULL)
        return;
    list_move_all(&notify->pending, &notify->staged);
    for (struct list_node *node; (node = list_first(&notify->pending)) != NULL;)
        free_job(list_entry(node, struct job, node));
    spool_read_close(&notify->reader);
    directory_expansion_free(&notify->expansion);
    free(notify->buffer);
    free(notify);
}

uint32_t notify_room(const struct notify *notify)
{
    size_t left = notify->octets < NOTIFY_OCTETS_MAX ? NOTIFY_OCTETS_MAX - notify->octets : 0;
    uint32_t room = NOTIFY_EVENTS_MAX - notify->open;
    return left / EVENT_USUAL < room ? (uint32_t)(left / EVENT_USUAL) : room;
}

static struct log_line log_event(const struct notify *notify, enum log_level level,
                                 uint64_t notification, uint64_t message_id)
{
    char id[ID_TEXT_LEN + 1];
    struct log_line line = log_begin_audit(notify->options.log, level, "bounce");
    if (notification != 0) {
        id_format(notification, id);
        log_string(&line, "id", id);
    }
    id_format(message_id, id);
    log_string(&line, "of", id);
    return line;
}

static void log_rest(struct log_line *line, struct bytes to, enum bounce_action action,
                     uint32_t recipient_count)
{
    static const char *const actions[] = {"failed", "delayed", "relayed", "delivered", "relayed"};
    log_bytes(line, "to", to.data, to.len);
    log_string(line, "action", actions[action]);
    log_number(line, "recipients", recipient_count);
}

/* --- whom it goes to --- */

/* expand leaves whom the reverse-path stands for in the expansion. NULL, or why there is nobody;
 * *later: it can't be told now. */
static const char *expand(struct notify *notify, const struct notify_event *event, bool *later)
{
    struct bytes to = event->envelope->reverse_path;
    struct directory_expansion *expansion = &notify->expansion;
    struct address address;
    enum address_result result = address_mailbox(to, true, &address);
    enum directory_verdict verdict = DIRECTORY_BAD_ADDRESS;

    if (result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL)
        verdict =
            directory_expand(event->directory, &address, clock_wall_us() / 1000000, expansion);
    /* Elsewhere a local part may be longer than any of ours. */
    if (verdict == DIRECTORY_BAD_ADDRESS && result == ADDRESS_LONG_LOCAL)
        verdict = directory_check(event->directory, &address) == DIRECTORY_RELAY_DENIED
                      ? DIRECTORY_RELAY_DENIED
                      : DIRECTORY_BAD_ADDRESS;
    switch (verdict) {
    case DIRECTORY_ACCEPT: return NULL;
    case DIRECTORY_RELAY_DENIED:
        expansion->targets[0] = (struct directory_target){.mailbox = to, .forwarded = true};
        expansion->target_count = 1;
        return NULL;
    case DIRECTORY_NO_SUCH_USER: return "no such user here";
    case DIRECTORY_LOOP: return "its aliases lead in a circle";
    case DIRECTORY_TOO_MANY: return "its aliases lead to too many recipients";
    case DIRECTORY_BAD_SRS: return "an SRS address that is forged or too old";
    case DIRECTORY_LATER: *later = true; return "too many SRS addresses were forged of late";
    case DIRECTORY_ROUTED:
    case DIRECTORY_BAD_ADDRESS: break;
    }
    return "no mailbox of ours";
}

static void log_nobody(const struct notify *notify, const struct notify_event *event,
                       uint32_t recipient_count, const char *why)
{
    struct log_line line = log_event(notify, LOG_ERROR, 0, event->message->message_id);
    log_rest(&line, event->envelope->reverse_path, event->action, recipient_count);
    log_string(&line, "error", why);
    log_end(&line);
}

/* --- an event becomes a job --- */

/* What an event needs, and the end of what has been used of it. */
struct layout {
    uint32_t index_count, recipient_count, verdict_count;
    size_t strings;
    uint8_t *string;
    struct verdict *verdict; /* the last that was copied */
};

static bool concerns(const struct notify_event *event, const struct delivery_recipient *recipient)
{
    return recipient->verdict.kind == event->only;
}

static bool is_told(const struct notify_event *event, const struct delivery_recipient *recipient)
{
    return concerns(event, recipient) &&
           bounce_wanted(event->action, recipient->notify, event->envelope->reverse_path);
}

static struct layout measure(const struct notify_event *event)
{
    const struct envelope *envelope = event->envelope;
    const struct verdict *last = NULL;
    struct layout layout = {.strings = envelope->reverse_path.len + envelope->envid.len +
                                       envelope->added.len};
    for (uint32_t i = 0; i < event->recipient_count; i++) {
        const struct delivery_recipient *recipient = &event->recipients[i];
        layout.index_count += concerns(event, recipient);
        if (!is_told(event, recipient))
            continue;
        layout.recipient_count++;
        /* Often many recipients in a row have the same, which is kept once then. */
        layout.verdict_count += last == NULL || !bounce_same_verdict(last, &recipient->verdict);
        layout.strings += recipient->forward_path.len + recipient->orcpt.len;
        last = &recipient->verdict;
    }
    return layout;
}

static struct bytes copy_bytes(struct layout *layout, struct bytes in)
{
    uint8_t *at = layout->string;
    if (in.len > 0)
        memcpy(at, in.data, in.len);
    layout->string += in.len;
    return bytes_make(at, in.len);
}

static void copy_recipient(struct job *job, struct layout *layout, struct verdict *verdicts,
                           const struct delivery_recipient *recipient)
{
    if (layout->verdict == NULL || !bounce_same_verdict(layout->verdict, &recipient->verdict)) {
        layout->verdict = layout->verdict == NULL ? verdicts : layout->verdict + 1;
        *layout->verdict = recipient->verdict;
        layout->verdict->text[VERDICT_TEXT_MAX - 1] = '\0';
    }
    job->recipients[job->recipient_count++] = (struct bounce_recipient){
        .forward_path = copy_bytes(layout, recipient->forward_path),
        .orcpt = copy_bytes(layout, recipient->orcpt),
        .verdict = layout->verdict,
        .peer = job->peer,
    };
}

static void copy_targets(struct job *job, struct layout *layout,
                         const struct directory_expansion *expansion)
{
    for (uint32_t i = 0; i < expansion->target_count; i++)
        job->targets[job->target_count++] = (struct envelope_recipient){
            .forward_path = copy_bytes(layout, expansion->targets[i].mailbox),
            .forwarded = expansion->targets[i].forwarded,
        };
}

static void fill(struct job *job, struct layout *layout, const struct notify_event *event)
{
    const struct directory_expansion *expansion = &job->notify->expansion;
    job->targets = (struct envelope_recipient *)(job + 1);
    job->recipients = (struct bounce_recipient *)(job->targets + expansion->target_count);
    job->indexes = (uint32_t *)(job->recipients + layout->recipient_count);
    struct verdict *verdicts = (struct verdict *)(job->indexes + layout->index_count);
    layout->string = (uint8_t *)(verdicts + layout->verdict_count);
    job->message = *event->message;
    job->action = event->action;
    job->retry_until_us = event->retry_until_us;
    job->user = event->user;
    job->told = event->told;
    size_t peer_len = strnlen(event->peer, PEER_SIZE - 1);
    memcpy(job->peer, event->peer, peer_len);
    job->peer[peer_len] = '\0';
    job->envelope = *event->envelope;
    job->envelope.reverse_path = copy_bytes(layout, event->envelope->reverse_path);
    job->envelope.envid = copy_bytes(layout, event->envelope->envid);
    job->envelope.added = copy_bytes(layout, event->envelope->added);
    copy_targets(job, layout, expansion);
    for (uint32_t i = 0; i < event->recipient_count; i++) {
        const struct delivery_recipient *recipient = &event->recipients[i];
        if (concerns(event, recipient))
            job->indexes[job->index_count++] = recipient->index;
        if (is_told(event, recipient))
            copy_recipient(job, layout, verdicts, recipient);
    }
    CHECK(job->index_count == layout->index_count && layout->string <= (uint8_t *)job + job->size);
}

static_assert(sizeof(struct job) % alignof(struct envelope_recipient) == 0 &&
                  sizeof(struct envelope_recipient) % alignof(struct bounce_recipient) == 0 &&
                  sizeof(struct bounce_recipient) % alignof(uint32_t) == 0 &&
                  sizeof(uint32_t) % alignof(struct verdict) == 0,
              "they lie one behind the other");

enum notify_result notify_add(struct notify *notify, const struct notify_event *event)
{
    const struct directory_expansion *expansion = &notify->expansion;
    struct layout layout = measure(event);
    if (layout.recipient_count == 0)
        return NOTIFY_NOBODY;
    bool later = false;
    const char *why = expand(notify, event, &later);
    if (later)
        return NOTIFY_LATER;
    if (why != NULL) {
        log_nobody(notify, event, layout.recipient_count, why);
        return NOTIFY_NOBODY;
    }
    for (uint32_t i = 0; i < expansion->target_count; i++)
        layout.strings += expansion->targets[i].mailbox.len;
    size_t size = sizeof(struct job) + expansion->target_count * sizeof(struct envelope_recipient) +
                  layout.recipient_count * sizeof(struct bounce_recipient) +
                  layout.verdict_count * sizeof(struct verdict) +
                  layout.index_count * sizeof(uint32_t) + layout.strings;
    if (notify->open == NOTIFY_EVENTS_MAX ||
        (notify->open > 0 && notify->octets + size > NOTIFY_OCTETS_MAX))
        return NOTIFY_LATER;
    struct job *job = calloc(1, size);
    if (job == NULL)
        return NOTIFY_LATER;
    job->notify = notify;
    job->size = size;
    fill(job, &layout, event);
    list_append(&notify->pending, &job->node);
    notify->open++;
    notify->octets += size;
    return NOTIFY_TAKEN;
}

/* --- composing --- */

static int append(void *user, struct bytes piece)
{
    struct notify *notify = user;
    size_t wanted = notify->buffer_len + piece.len;
    if (wanted > notify->buffer_capacity) {
        size_t bigger = notify->buffer_capacity == 0 ? 64 * 1024 : notify->buffer_capacity;
        while (bigger < wanted)
            bigger *= 2;
        uint8_t *fresh = realloc(notify->buffer, bigger);
        if (fresh == NULL)
            return -ENOMEM;
        notify->buffer = fresh;
        notify->buffer_capacity = bigger;
    }
    memcpy(notify->buffer + notify->buffer_len, piece.data, piece.len);
    notify->buffer_len = wanted;
    return 0;
}

static int next_piece(void *user, struct bytes *piece)
{
    struct notify *notify = user;
    return spool_read_next(&notify->reader, piece);
}

static int rewind_text(void *user)
{
    struct notify *notify = user;
    spool_read_rewind(&notify->reader);
    return 0;
}

static uint64_t next_id(struct notify *notify)
{
    uint64_t id = clock_wall_us() * LIMIT_PORTS + ID_INDEX;
    if (id <= notify->id_last)
        id = notify->id_last + LIMIT_PORTS;
    notify->id_last = id;
    return id;
}

/* compose makes the notification in the buffer. An original that can't be read is left out. 0, or
 * -ENOMEM. */
static int compose(struct notify *notify, struct job *job, uint32_t original_max)
{
    char id[ID_TEXT_LEN + 1];
    struct envelope envelope; /* the event has brought it, too */
    struct delivery_text text = {next_piece, rewind_text, notify};
    job->id = next_id(notify);
    id_format(job->id, id);
    struct bounce bounce = {.action = job->action,
                            .envelope = &job->envelope,
                            .recipients = job->recipients,
                            .recipient_count = job->recipient_count,
                            .hostname = notify->options.hostname,
                            .id = id,
                            .now_us = clock_wall_us(),
                            .retry_until_us = job->retry_until_us,
                            .original_max = original_max};
    int error = spool_read(notify->options.spool, &job->message, &notify->reader, &envelope);
    notify->buffer_len = 0;
    if (error == 0)
        error = bounce_write(&bounce, &text, append, notify);
    if (error != 0 && error != -ENOMEM) {
        notify->buffer_len = 0;
        error = bounce_write(&bounce, NULL, append, notify);
    }
    notify->composed = error == 0;
    notify->staged_len = 0;
    notify->parts = 0;
    return error;
}

/* --- staging --- */

static bool has_eight_bit(struct bytes text)
{
    uint8_t all = 0;
    for (size_t i = 0; i < text.len; i++)
        all |= text.data[i];
    return all > 127;
}

static void settled(void *user, enum staging_outcome outcome);

/* The reverse-path stands in the header. */
static bool needs_utf8(const struct job *job)
{
    bool needed = has_eight_bit(job->envelope.reverse_path);
    for (uint32_t i = 0; i < job->target_count && !needed; i++)
        needed = has_eight_bit(job->targets[i].forward_path);
    return needed;
}

static bool stage_commit(struct notify *notify, struct job *job)
{
    struct staging *staging = notify->options.staging;
    struct envelope envelope = {.message_id = job->id,
                                .arrival_us = clock_wall_us(),
                                .text_len = notify->buffer_len,
                                .recipient_count = job->target_count,
                                .terms = {.priority = job->envelope.terms.priority}};
    if (has_eight_bit(bytes_make(notify->buffer, notify->buffer_len)))
        envelope.flags |= ENVELOPE_8BITMIME;
    if (needs_utf8(job))
        envelope.flags |= ENVELOPE_SMTPUTF8;
    size_t size = envelope_size(&envelope, job->targets);
    if (!ledger_can_follow(notify->options.ledger) ||
        staging_room(staging) < record_size(size) + RING_RESERVE)
        return false;
    uint8_t *out = staging_reserve(staging, size);
    if (out == NULL)
        return false;
    size_t len = envelope_write(&envelope, job->targets, out);
    uint64_t position = staging_append(staging, RECORD_COMMIT, job->id, notify->parts, len);
    list_remove(&job->node);
    list_append(&notify->staged, &job->node);
    ledger_follow(notify->options.ledger, position, settled, job);
    return true;
}

/* stage lays down what is composed; false: the ring has no room for the rest now. */
static bool stage(struct notify *notify, struct job *job)
{
    struct staging *staging = notify->options.staging;
    while (notify->staged_len < notify->buffer_len) {
        size_t len = notify->buffer_len - notify->staged_len;
        if (len > LIMIT_PIECE)
            len = LIMIT_PIECE;
        if (staging_room(staging) < record_size(len) + RING_RESERVE)
            return false;
        uint8_t *out = staging_reserve(staging, len);
        if (out == NULL)
            return false;
        memcpy(out, notify->buffer + notify->staged_len, len);
        staging_append(staging, RECORD_BODY, job->id, notify->parts++, len);
        notify->staged_len += len;
    }
    if (!stage_commit(notify, job))
        return false;
    notify->composed = false;
    if (notify->buffer_capacity > BUFFER_KEPT) {
        free(notify->buffer);
        notify->buffer = NULL;
        notify->buffer_capacity = 0;
    }
    return true;
}

void notify_step(struct notify *notify, uint32_t original_max, uint64_t now_us)
{
    uint64_t end_us = clock_monotonic_us() + NOTIFY_ROUND_US;
    size_t octets = 0;
    if (list_empty(&notify->pending) || now_us < notify->not_before_us)
        return;
    notify->not_before_us = 0;
    for (uint32_t i = 0; i < NOTIFY_ROUND && octets < NOTIFY_ROUND_OCTETS; i++) {
        struct list_node *node = list_first(&notify->pending);
        if (node == NULL)
            break;
        struct job *job = list_entry(node, struct job, node);
        if (!notify->composed && compose(notify, job, original_max) != 0) {
            notify->not_before_us = now_us + RETRY_US;
            break;
        }
        octets += notify->buffer_len;
        if (!stage(notify, job)) {
            notify->not_before_us = now_us + FULL_RING_US;
            break;
        }
        if (clock_monotonic_us() >= end_us)
            break;
    }
    staging_publish(notify->options.staging, true);
}

uint64_t notify_next_us(const struct notify *notify)
{
    return list_empty(&notify->pending) ? UINT64_MAX : notify->not_before_us;
}

/* --- the end --- */

static void log_sent(const struct notify *notify, const struct job *job)
{
    struct log_line line = log_event(notify, LOG_INFO, job->id, job->message.message_id);
    log_rest(&line, job->envelope.reverse_path, job->action, job->recipient_count);
    if (job->target_count > 1)
        log_number(&line, "targets", job->target_count);
    log_end(&line);
}

static void settled(void *user, enum staging_outcome outcome)
{
    struct job *job = user;
    struct notify *notify = job->notify;
    if (outcome != STAGING_DURABLE) {
        list_remove(&job->node);
        list_append(&notify->pending, &job->node);
        if (!notify->composed)
            notify->not_before_us = clock_monotonic_us() + RETRY_US;
        return;
    }
    log_sent(notify, job);
    notify->sent++;
    job->told(&(struct notify_told){.user = job->user,
                                    .action = job->action,
                                    .message_id = job->message.message_id,
                                    .notification = job->id,
                                    .indexes = job->indexes,
                                    .count = job->index_count});
    free_job(job);
}

uint32_t notify_open(const struct notify *notify)
{
    return notify->open;
}

uint64_t notify_sent(const struct notify *notify)
{
    return notify->sent;
}
