/* Compaction: copying a living message to the end of the log. The copy carries what is known about
 * finished recipients between its BODY and its COMMIT, since the DONE records behind the old place
 * go when that is recycled (docs/spool.md, "Recycling"). */
#include "gateway/base/check.h"
#include "gateway/spool/spool_inside.h"

#include <errno.h>

/* The copy in the making. */
struct relocation {
    struct staging *staging;
    uint64_t message_id;
    uint32_t parts;
};

static int copy_part(void *user, struct bytes text)
{
    struct relocation *copy = user;
    uint8_t *out = staging_reserve(copy->staging, text.len);
    if (out == NULL)
        return -EAGAIN;
    if (text.len != 0)
        memcpy(out, text.data, text.len);
    staging_append(copy->staging, RECORD_BODY, copy->message_id, copy->parts++, text.len);
    return 0;
}

static bool finished(const uint8_t *done, uint32_t recipient)
{
    return done != NULL && (done[recipient / 8] >> recipient % 8 & 1) != 0;
}

/* Lays down what is known about the recipients, as one DONE record. */
static int copy_done(const struct relocation *copy, const struct spool_message *message,
                     const uint8_t *done, uint64_t next_attempt_s)
{
    size_t count = 0;
    for (uint32_t i = 0; i < message->recipient_count; i++)
        count += finished(done, i);
    struct record_done deferred = {.message_id = message->message_id,
                                   .recipient = RECORD_ALL_RECIPIENTS,
                                   .attempts = message->attempts,
                                   .outcome = RECORD_DEFERRED,
                                   .next_attempt_s = next_attempt_s};
    size_t size = (count + 1) * sizeof deferred;
    uint8_t *out = staging_reserve(copy->staging, size);
    if (out == NULL)
        return -EAGAIN;
    memcpy(out, &deferred, sizeof deferred);
    out += sizeof deferred;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (!finished(done, i))
            continue;
        struct record_done one = {.message_id = message->message_id,
                                  .recipient = i,
                                  .attempts = message->attempts,
                                  .outcome = RECORD_DELIVERED};
        memcpy(out, &one, sizeof one);
        out += sizeof one;
    }
    staging_append(copy->staging, RECORD_DONE, 0, 0, size);
    return 0;
}

static int copy_commit(const struct relocation *copy, struct bytes form)
{
    uint8_t *out = staging_reserve(copy->staging, form.len);
    if (out == NULL)
        return -EAGAIN;
    memcpy(out, form.data, form.len);
    staging_append(copy->staging, RECORD_COMMIT, copy->message_id, copy->parts, form.len);
    return 0;
}

/* Returns what the copy takes in the ring at most. */
static size_t size_of(const struct spool_reader *reader, const struct spool_message *message)
{
    size_t parts = record_size(0) * (reader->parts + 1) + RECORD_ALIGN * reader->parts;
    size_t done = record_size(sizeof(struct record_done) * (message->recipient_count + 1));
    size_t cuts = message->text_len / LIMIT_GROUP * (LIMIT_BLOCK + RECORD_HEADER);
    return message->text_len + parts + done + cuts + record_size(reader->form_len);
}

int spool_relocate(struct spool *spool, struct staging *staging,
                   const struct spool_message *message, const uint8_t *done,
                   uint64_t next_attempt_s)
{
    struct spool_reader reader = {0};
    struct envelope envelope;
    struct relocation copy = {.staging = staging, .message_id = message->message_id};
    int error = spool_read(spool, message, &reader, &envelope);
    if (error == 0 && size_of(&reader, message) > staging->size / 2)
        error = -EFBIG;
    if (error == 0 && staging_room(staging) < size_of(&reader, message))
        error = -EAGAIN;
    if (error == 0)
        error = spool_read_text(&reader, copy_part, &copy);
    /* A DONE record counts only for an open message: one without text gets an empty part. */
    if (error == 0 && copy.parts == 0)
        error = copy_part(&copy, bytes_make(NULL, 0));
    if (error == 0)
        error = copy_done(&copy, message, done, next_attempt_s);
    if (error == 0)
        error = copy_commit(&copy, spool_read_form(&reader));
    if (error != 0 && copy.parts != 0 && staging_reserve(staging, 0) != NULL)
        staging_append(staging, RECORD_ABORT, message->message_id, 0, 0);
    spool_read_close(&reader);
    return error;
}
