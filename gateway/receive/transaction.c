/* One mail transaction: see transaction.h. The text is copied exactly once, from the receive buffer
 * to the staging ring, while it is in the cache; only pieces too short for a record are put aside
 * first. */
#include "gateway/receive/transaction.h"

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/base/limits.h"
#include "gateway/receive/collection.h"
#include "gateway/receive/fixups.h"
#include "gateway/receive/signing.h"

#include <string.h>

enum {
    PENDING_MAX =
        BLOCK_SIZE / 2,        /* less text than this waits for more before it becomes a record */
    ABORT_RESERVE = 64 * 1024, /* staging room that text leaves to ABORT records */
    TAKE_MAX = LIMIT_PIECE - BLOCK_SIZE, /* octets at once: with what is pending still a piece */
    STAMPS_MAX = STAMP_LEN_MAX + STAMP_RESULTS_MAX,
    ADDED_MAX = STAMPS_MAX + SIGNING_LEN_MAX, /* octets of the fields that we add */
};

static bool copy_bytes(const struct transaction_context *context, struct arena *arena,
                       struct bytes in, struct bytes *out)
{
    void *copy = arena_copy(arena, context->blocks, in.data, in.len);
    *out = bytes_make(copy, in.len);
    return copy != NULL;
}

static uint32_t envelope_flags(const struct command *mail)
{
    uint32_t flags = 0;
    if (mail->body == COMMAND_BODY_8BITMIME)
        flags |= ENVELOPE_8BITMIME;
    if (mail->body == COMMAND_BODY_BINARYMIME)
        flags |= ENVELOPE_BINARYMIME;
    if (mail->smtputf8)
        flags |= ENVELOPE_SMTPUTF8;
    if (mail->ret == COMMAND_RET_FULL)
        flags |= ENVELOPE_RET_FULL;
    if (mail->ret == COMMAND_RET_HDRS)
        flags |= ENVELOPE_RET_HDRS;
    if (mail->requiretls)
        flags |= ENVELOPE_REQUIRETLS;
    return flags;
}

struct transaction *transaction_new(const struct transaction_context *context,
                                    const struct command *mail, uint64_t message_id)
{
    struct arena arena = {0};
    struct transaction *transaction = arena_take(&arena, context->blocks, sizeof(*transaction));
    if (transaction == NULL)
        return NULL;
    memset(transaction, 0, sizeof(*transaction));
    struct envelope *envelope = &transaction->envelope;
    envelope->message_id = message_id;
    envelope->flags = envelope_flags(mail);
    transaction->binary = mail->body == COMMAND_BODY_BINARYMIME;
    transaction->size = mail->has_size ? mail->size : 0;
    transaction->message_size_max = context->message_size_max;
    transaction->recipients_max = context->recipients_max;
    bool copied = copy_bytes(context, &arena, mail->address.text, &envelope->reverse_path) &&
                  copy_bytes(context, &arena, mail->envid, &envelope->envid);
    if (!copied) {
        arena_empty(&arena, context->blocks);
        return NULL;
    }
    transaction->arena = arena;
    return transaction;
}

/* stage_abort tells the writer that the staged parts will have no COMMIT. False: no room now. */
static bool stage_abort(const struct transaction_context *context, struct transaction *transaction)
{
    if (transaction->parts == 0 || transaction->committed)
        return true;
    if (staging_reserve(context->staging, 0) == NULL)
        return false;
    staging_append(context->staging, RECORD_ABORT, transaction->envelope.message_id,
                   transaction->parts, 0);
    transaction->parts = 0;
    return true;
}

static void forget_collection(const struct transaction_context *context,
                              struct transaction *transaction)
{
    if (transaction->collection != NULL)
        collection_empty(transaction->collection, context->chunks);
    transaction->collection = NULL;
    transaction->collecting = false;
}

bool transaction_free(const struct transaction_context *context, struct transaction *transaction)
{
    if (!stage_abort(context, transaction))
        return false;
    forget_collection(context, transaction);
    blocks_give(context->blocks, transaction->pending);
    signing_free(transaction->signing);
    fixups_free(transaction->fixups);
    struct arena arena = transaction->arena; /* the transaction lies inside */
    arena_empty(&arena, context->blocks);
    return true;
}

/* --- text --- */

/* refuse notes the first reason; what was staged is given up as soon as there is room to say so. */
static void refuse(const struct transaction_context *context, struct transaction *transaction,
                   enum reply why)
{
    if (transaction->refusal != REPLY_NONE)
        return;
    transaction->refusal = why;
    transaction->pending_len = 0;
    forget_collection(context, transaction);
    fixups_free(transaction->fixups);        /* however long the rest of the text takes */
    (void)stage_abort(context, transaction); /* transaction_free tries again */
}

/* check_text applies the law of lines and the limits to what has been seen up to now. */
static void check_text(const struct transaction_context *context, struct transaction *transaction)
{
    if (transaction->octets > transaction->message_size_max)
        refuse(context, transaction, REPLY_MESSAGE_TOO_BIG);
    else if (!transaction->binary &&
             (transaction->scan.seen & (SCAN_SEEN_BARE_CR | SCAN_SEEN_BARE_LF)))
        refuse(context, transaction, REPLY_BARE_NEWLINE);
    else if (transaction->header.received_count > LIMIT_RECEIVED)
        refuse(context, transaction, REPLY_LOOP);
}

/* A place in the staging ring that text is being copied to; NULL: it is collected. */
struct place {
    uint8_t *start;
    size_t len;
};

/* stage_collected puts the text that was collected into the staging ring. False: there is no room
 * for the rest now. */
static bool stage_collected(const struct transaction_context *context,
                            struct transaction *transaction)
{
    struct collection *collection = transaction->collection;
    transaction->collecting = false;
    while (collection != NULL && collection->staged < collection->count) {
        struct bytes piece = collection->pieces[collection->staged];
        uint8_t *out = NULL;
        if (staging_room(context->staging) >= piece.len + ABORT_RESERVE)
            out = staging_reserve(context->staging, piece.len);
        if (out == NULL)
            return false;
        memcpy(out, piece.data, piece.len);
        staging_append(context->staging, RECORD_BODY, transaction->envelope.message_id,
                       transaction->parts++, piece.len);
        transaction->envelope.text_len += piece.len;
        collection->staged++;
    }
    forget_collection(context, transaction);
    return true;
}

/* place_open makes room for what is pending and up to `more` octets. */
static bool place_open(const struct transaction_context *context, struct transaction *transaction,
                       size_t more, struct place *place)
{
    if (transaction->collecting && collection_fits(transaction->collection, context->chunks, more))
        return true;
    if (!stage_collected(context, transaction))
        return false;
    size_t wanted = transaction->pending_len + more;
    if (staging_room(context->staging) < wanted + ABORT_RESERVE)
        return false;
    place->start = staging_reserve(context->staging, wanted);
    if (place->start == NULL)
        return false;
    if (transaction->pending_len > 0)
        memcpy(place->start, transaction->pending, transaction->pending_len);
    place->len = transaction->pending_len;
    return true;
}

static void place_add(const struct transaction_context *context, struct transaction *transaction,
                      struct place *place, struct bytes text)
{
    if (text.len == 0)
        return;
    if (transaction->signing != NULL)
        signing_body(transaction->signing, text);
    if (transaction->collecting) {
        header_watch_text(&transaction->header, text);
        collection_add(transaction->collection, context->chunks, text);
        return;
    }
    memcpy(place->start + place->len, text.data, text.len);
    place->len += text.len;
}

/* place_close makes a record of the text, or puts it aside when it is short and more will come. */
static void place_close(const struct transaction_context *context, struct transaction *transaction,
                        struct place *place, bool ended)
{
    if (transaction->collecting) {
        check_text(context, transaction);
        return;
    }
    header_watch_text(&transaction->header, bytes_make(place->start + transaction->pending_len,
                                                       place->len - transaction->pending_len));
    check_text(context, transaction);
    if (transaction->refusal != REPLY_NONE || place->len == 0)
        return;
    if (!ended && place->len < PENDING_MAX) {
        if (transaction->pending == NULL)
            transaction->pending = blocks_take(context->blocks);
        if (transaction->pending != NULL) {
            memcpy(transaction->pending, place->start, place->len);
            transaction->pending_len = (uint32_t)place->len;
            return;
        } /* no block: a short record will do */
    }
    staging_append(context->staging, RECORD_BODY, transaction->envelope.message_id,
                   transaction->parts++, place->len);
    transaction->envelope.text_len += place->len;
    transaction->pending_len = 0;
}

/* --- the header section of submitted mail, before any of it is staged --- */

/* stage_held stages what `fixups` has held, once; a little of it, if more will come, is put aside.
 * False: there is no room now. */
static bool stage_held(const struct transaction_context *context, struct transaction *transaction,
                       bool ended)
{
    struct bytes held = fixups_held(transaction->fixups);
    if (!ended && held.len < BLOCK_SIZE)
        transaction->pending = blocks_take(context->blocks);
    if (transaction->pending != NULL) {
        memcpy(transaction->pending, held.data, held.len);
        transaction->pending_len = (uint32_t)held.len;
    } else {
        uint8_t *out = NULL;
        if (staging_room(context->staging) >= held.len + ABORT_RESERVE)
            out = staging_reserve(context->staging, held.len);
        if (out == NULL)
            return false;
        memcpy(out, held.data, held.len);
        staging_append(context->staging, RECORD_BODY, transaction->envelope.message_id,
                       transaction->parts++, held.len);
        transaction->envelope.text_len += held.len;
    }
    transaction->holding = false;
    fixups_free(transaction->fixups);
    return true;
}

/* What becomes of the next text. */
enum holding {
    HOLDING_MORE, /* it is held, too */
    HOLDING_OVER, /* it goes the way of all text */
    HOLDING_FULL, /* nothing can be taken now */
};

/* look_at_held: *room: how much of it can be held. */
static enum holding look_at_held(const struct transaction_context *context,
                                 struct transaction *transaction, size_t *room)
{
    enum reply refusal = REPLY_NONE;
    if (transaction->refusal == REPLY_NONE && fixups_whole(transaction->fixups))
        return stage_held(context, transaction, false) ? HOLDING_OVER : HOLDING_FULL;
    *room = transaction->refusal == REPLY_NONE ? fixups_room(transaction->fixups, &refusal) : 0;
    if (*room > 0)
        return HOLDING_MORE;
    if (refusal != REPLY_NONE)
        refuse(context, transaction, refusal);
    transaction->holding = false;
    return HOLDING_OVER;
}

/* see_held looks at what has been held by now. */
static void see_held(const struct transaction_context *context, struct transaction *transaction,
                     bool ended)
{
    check_text(context, transaction);
    if (transaction->refusal != REPLY_NONE || !(ended || fixups_whole(transaction->fixups)))
        return;
    enum reply refusal = submission_header(transaction);
    if (refusal != REPLY_NONE)
        refuse(context, transaction, refusal);
}

static void hold(struct transaction *transaction, struct bytes text)
{
    header_watch_text(&transaction->header, text);
    fixups_text(transaction->fixups, text);
}

static size_t hold_data(const struct transaction_context *context, struct transaction *transaction,
                        struct bytes in, size_t room, bool *ended)
{
    struct bytes span;
    size_t taken = 0;
    size_t limit = in.len < room - 1 ? in.len : room - 1; /* as in transaction_data */
    while (taken < limit && transaction->scan.position != SCAN_ENDED) {
        taken += scan_data(&transaction->scan, bytes_slice(in, taken, limit), &span);
        transaction->octets += span.len;
        hold(transaction, span);
    }
    *ended = transaction->scan.position == SCAN_ENDED;
    see_held(context, transaction, *ended);
    return taken;
}

static size_t hold_chunk(const struct transaction_context *context, struct transaction *transaction,
                         struct bytes in, size_t room, bool last)
{
    struct bytes piece = bytes_make(in.data, in.len < room ? in.len : room);
    bool ended = last && piece.len == in.len;
    scan_text(&transaction->scan, piece);
    if (ended)
        scan_text_end(&transaction->scan);
    transaction->octets += piece.len;
    hold(transaction, piece);
    see_held(context, transaction, ended);
    return piece.len;
}

/* --- text, from the client --- */

size_t transaction_data(const struct transaction_context *context, struct transaction *transaction,
                        struct bytes in, bool *ended)
{
    struct place place = {NULL, 0};
    struct bytes span;
    if (transaction->holding) {
        size_t room = 0;
        switch (look_at_held(context, transaction, &room)) {
        case HOLDING_MORE: return hold_data(context, transaction, in, room, ended);
        case HOLDING_FULL: return 0;
        case HOLDING_OVER: break;
        }
    }
    size_t taken = 0;
    size_t limit = in.len < TAKE_MAX ? in.len : TAKE_MAX;
    bool storing = transaction->refusal == REPLY_NONE;
    /* One octet more than comes in: a held-back CR may turn out to be text. */
    if (storing && !place_open(context, transaction, limit + 1, &place))
        return 0;
    while (taken < limit && transaction->scan.position != SCAN_ENDED) {
        taken += scan_data(&transaction->scan, bytes_slice(in, taken, limit), &span);
        transaction->octets += span.len;
        if (storing)
            place_add(context, transaction, &place, span);
    }
    *ended = transaction->scan.position == SCAN_ENDED;
    if (storing)
        place_close(context, transaction, &place, *ended);
    return taken;
}

bool transaction_chunk(const struct transaction_context *context, struct transaction *transaction,
                       struct bytes in, bool last, size_t *taken)
{
    struct place place = {NULL, 0};
    struct bytes piece = bytes_make(in.data, in.len < TAKE_MAX ? in.len : TAKE_MAX);
    bool ended = last && piece.len == in.len;
    *taken = 0;
    if (transaction->holding) {
        size_t room = 0;
        switch (look_at_held(context, transaction, &room)) {
        case HOLDING_MORE: *taken = hold_chunk(context, transaction, in, room, last); return true;
        case HOLDING_FULL: return false;
        case HOLDING_OVER: break;
        }
    }
    bool storing = transaction->refusal == REPLY_NONE;
    if (storing && !place_open(context, transaction, piece.len, &place))
        return false;
    scan_text(&transaction->scan, piece);
    if (ended)
        scan_text_end(&transaction->scan);
    transaction->octets += piece.len;
    if (storing) {
        place_add(context, transaction, &place, piece);
        place_close(context, transaction, &place, ended);
    }
    *taken = piece.len;
    return true;
}

/* --- the end of the message --- */

static uint64_t stage_commit(const struct transaction_context *context,
                             struct transaction *transaction, uint8_t *out)
{
    uint32_t count = 0;
    for (struct transaction_recipient *at = transaction->recipients; at != NULL; at = at->next)
        context->scratch[count++] = at->envelope;
    CHECK(count == transaction->envelope.recipient_count);
    size_t len = envelope_write(&transaction->envelope, context->scratch, out);
    return staging_append(context->staging, RECORD_COMMIT, transaction->envelope.message_id,
                          transaction->parts, len);
}

/* commit_size_max bounds the octets of the COMMIT before anything is built. */
static size_t commit_size_max(const struct transaction *transaction)
{
    size_t added = transaction->signing != NULL ? ADDED_MAX : STAMPS_MAX;
    size_t size =
        256 + added + transaction->envelope.reverse_path.len + transaction->envelope.envid.len;
    for (struct transaction_recipient *at = transaction->recipients; at != NULL; at = at->next)
        size += 32 + at->envelope.forward_path.len + at->envelope.orcpt.len;
    return size;
}

size_t transaction_stamp(const struct transaction_context *context,
                         const struct transaction *transaction, struct stamp *stamp, char *out)
{
    char id[ID_TEXT_LEN + 1];
    id_format(transaction->envelope.message_id, id);
    stamp->id = id;
    stamp->utf8 = transaction->envelope.flags & ENVELOPE_SMTPUTF8;
    stamp->priority = transaction->envelope.terms.priority;
    stamp->hostname = context->hostname;
    /* What the client asked for, not what an alias made of it. */
    if (transaction->rcpt_count == 1)
        stamp->recipient = transaction->rcpt_first;
    return stamp_received(stamp, out);
}

/* write_added writes all header fields that we put before the text to `out`, and returns their
 * length. */
static size_t write_added(const struct transaction_context *context,
                          const struct transaction *transaction, struct stamp *stamp, char *out)
{
    size_t len = transaction_stamp(context, transaction, stamp, out);
    len += stamp_results(stamp, out + len);
    return len + signing_fields(transaction->signing, out + len);
}

enum transaction_commit transaction_commit(const struct transaction_context *context,
                                           struct transaction *transaction, struct stamp *stamp)
{
    if (transaction->refusal != REPLY_NONE)
        return TRANSACTION_REFUSED;
    if (!stage_collected(context, transaction) ||
        (transaction->holding && !stage_held(context, transaction, true)))
        return TRANSACTION_NO_ROOM;
    size_t size_max = commit_size_max(transaction);
    if (staging_room(context->staging) < size_max + ABORT_RESERVE)
        return TRANSACTION_NO_ROOM;
    uint8_t *out = staging_reserve(context->staging, size_max);
    if (out == NULL)
        return TRANSACTION_NO_ROOM;
    char added[ADDED_MAX];
    size_t added_len = write_added(context, transaction, stamp, added);
    transaction->envelope.arrival_us = stamp->wall_us;
    transaction->envelope.added = bytes_make(added, added_len);
    transaction->commit_position = stage_commit(context, transaction, out);
    transaction->committed = true;
    return TRANSACTION_COMMITTED;
}
