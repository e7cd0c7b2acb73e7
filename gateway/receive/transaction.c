/* One mail transaction: see transaction.h. The text is copied exactly once, from the receive buffer
 * to the staging ring, while it is in the cache; only pieces too short for a record are put aside
 * first. */
#include "gateway/receive/transaction.h"

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/base/limits.h"
#include "gateway/receive/collection.h"

#include <string.h>

enum {
    PENDING_MAX =
        BLOCK_SIZE / 2,        /* less text than this waits for more before it becomes a record */
    ABORT_RESERVE = 64 * 1024, /* staging room that text leaves to ABORT records */
    TAKE_MAX = LIMIT_PIECE - BLOCK_SIZE, /* octets at once: with what is pending still a piece */
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
    (void)stage_abort(context, transaction); /* transaction_free tries again */
}

/* check_text applies the law of lines and the limits to what has been seen up to now. */
static void check_text(const struct transaction_context *context, struct transaction *transaction)
{
    if (transaction->octets > context->message_size_max)
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

size_t transaction_data(const struct transaction_context *context, struct transaction *transaction,
                        struct bytes in, bool *ended)
{
    struct place place = {NULL, 0};
    struct bytes span;
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
    bool storing = transaction->refusal == REPLY_NONE;
    bool ended = last && piece.len == in.len;
    *taken = 0;
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
    size_t size = 256 + STAMP_LEN_MAX + transaction->envelope.reverse_path.len +
                  transaction->envelope.envid.len;
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
    stamp->hostname = context->hostname;
    /* What the client asked for, not what an alias made of it. */
    if (transaction->rcpt_count == 1)
        stamp->recipient = transaction->rcpt_first;
    return stamp_received(stamp, out);
}

enum transaction_commit transaction_commit(const struct transaction_context *context,
                                           struct transaction *transaction, struct stamp *stamp)
{
    if (transaction->refusal != REPLY_NONE)
        return TRANSACTION_REFUSED;
    if (!stage_collected(context, transaction))
        return TRANSACTION_NO_ROOM;
    size_t size_max = commit_size_max(transaction);
    if (staging_room(context->staging) < size_max + ABORT_RESERVE)
        return TRANSACTION_NO_ROOM;
    uint8_t *out = staging_reserve(context->staging, size_max);
    if (out == NULL)
        return TRANSACTION_NO_ROOM;
    char received[STAMP_LEN_MAX];
    size_t received_len = transaction_stamp(context, transaction, stamp, received);
    transaction->envelope.arrival_us = stamp->wall_us;
    transaction->envelope.added = bytes_make(received, received_len);
    transaction->commit_position = stage_commit(context, transaction, out);
    transaction->committed = true;
    return TRANSACTION_COMMITTED;
}
