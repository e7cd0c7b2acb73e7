/* Compaction: copying a living message to the end of the log. The copy carries what is known about
 * finished recipients between its BODY and its COMMIT, since the DONE records behind the old place
 * go when that is recycled (docs/spool.md, "Recycling"). */
#include "gateway/spool/relocate.h"

#include "gateway/base/check.h"
#include "gateway/spool/spool_inside.h"

#include <errno.h>

static uint8_t *reserve(const struct relocation *copy, size_t len)
{
    return staging_reserve(copy->staging, len);
}

static void append(struct relocation *copy, enum record_kind kind, size_t len)
{
    bool ours = kind != RECORD_DONE;
    uint32_t part = kind == RECORD_BODY || kind == RECORD_COMMIT ? copy->parts : 0;
    staging_append(copy->staging, kind, ours ? copy->message.message_id : 0, part, len);
    copy->octets += record_size(len);
    atomic_fetch_add_explicit(&copy->spool->octets_relocated, record_size(len),
                              memory_order_relaxed);
}

static int copy_part(struct relocation *copy)
{
    if (!copy->piece_read) {
        int error = spool_read_next(&copy->reader, &copy->piece);
        if (error != 0)
            return error;
        copy->piece_read = true;
    }
    /* A DONE record counts only for an open message: one without text gets an empty part. */
    if (copy->piece.len == 0 && copy->parts != 0) {
        copy->text_staged = true;
        return 0;
    }
    uint8_t *out = reserve(copy, copy->piece.len);
    if (out == NULL)
        return -EAGAIN;
    if (copy->piece.len != 0)
        memcpy(out, copy->piece.data, copy->piece.len);
    append(copy, RECORD_BODY, copy->piece.len);
    copy->parts++;
    copy->text_staged = copy->piece.len == 0;
    copy->piece_read = false;
    return 0;
}

static bool finished(const uint8_t *done, uint32_t recipient)
{
    return done != NULL && (done[recipient / 8] >> recipient % 8 & 1) != 0;
}

/* Lays down what is known about the recipients, as one DONE record. */
static int copy_done(struct relocation *copy, const uint8_t *done, uint64_t next_attempt_s,
                     uint16_t attempts)
{
    const struct spool_message *message = &copy->message;
    size_t count = 0;
    for (uint32_t i = 0; i < message->recipient_count; i++)
        count += finished(done, i);
    struct record_done deferred = {.message_id = message->message_id,
                                   .recipient = RECORD_ALL_RECIPIENTS,
                                   .attempts = attempts,
                                   .outcome = RECORD_DEFERRED,
                                   .next_attempt_s = next_attempt_s};
    size_t size = (count + 1) * sizeof deferred;
    uint8_t *out = reserve(copy, size);
    if (out == NULL)
        return -EAGAIN;
    memcpy(out, &deferred, sizeof deferred);
    out += sizeof deferred;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (!finished(done, i))
            continue;
        struct record_done one = {.message_id = message->message_id,
                                  .recipient = i,
                                  .attempts = attempts,
                                  .outcome = RECORD_DELIVERED};
        memcpy(out, &one, sizeof one);
        out += sizeof one;
    }
    append(copy, RECORD_DONE, size);
    copy->done_staged = true;
    return 0;
}

static int copy_commit(struct relocation *copy)
{
    struct bytes form = spool_read_form(&copy->reader);
    uint8_t *out = reserve(copy, form.len);
    if (out == NULL)
        return -EAGAIN;
    memcpy(out, form.data, form.len);
    append(copy, RECORD_COMMIT, form.len);
    return 0;
}

/* Ends a copy that failed. Without the ABORT the writer would go on to keep its segment. */
static int fail(struct relocation *copy)
{
    if (copy->parts != 0) {
        if (reserve(copy, 0) == NULL)
            return -EAGAIN;
        append(copy, RECORD_ABORT, 0);
    }
    return copy->error;
}

int relocation_begin(struct relocation *relocation, struct spool *spool, struct staging *staging,
                     const struct spool_message *message)
{
    struct envelope envelope;
    *relocation = (struct relocation){.spool = spool,
                                      .staging = staging,
                                      .message = *message,
                                      .reader = relocation->reader,
                                      .octets = relocation->octets};
    return spool_read(spool, message, &relocation->reader, &envelope);
}

int relocation_step(struct relocation *relocation, const uint8_t *done, uint64_t next_attempt_s,
                    uint16_t attempts)
{
    if (relocation->error != 0)
        return fail(relocation);
    if (relocation->text_staged && relocation->done_staged)
        return copy_commit(relocation);
    int error = relocation->text_staged ? copy_done(relocation, done, next_attempt_s, attempts)
                                        : copy_part(relocation);
    if (error == 0)
        return -EINPROGRESS;
    if (error == -EAGAIN)
        return error;
    relocation->error = error;
    return fail(relocation);
}

void relocation_close(struct relocation *relocation)
{
    spool_read_close(&relocation->reader);
    *relocation = (struct relocation){0};
}
