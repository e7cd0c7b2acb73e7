/* Reading records by their place. A place in the staging ring is tried first: it is copied out
 * while the producer may already be writing over it, and believed only if its checksums, which
 * contain its place and its segment's generation, are right. */
#include "gateway/spool/reader.h"

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/spool/spool_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    READER_GUESS = LIMIT_BLOCK, /* what a COMMIT record is read with at first */
    READER_GAP = 64 * 1024,     /* other messages' octets that one read may take along */
    /* What a message of many parts is read in: with the blocks that it begins and ends in, half a
     * MiB, which each connection that delivers from disk may have. */
    READER_STEP = 512 * 1024 - 2 * LIMIT_BLOCK,
    READER_AHEAD = 256 * 1024,
};

struct spool_place {
    uint64_t generation;
    uint32_t offset;
    uint32_t part;
};

/* Makes *memory at least `wanted` octets, aligned for direct I/O. */
static int ensure(uint8_t **memory, size_t *capacity, size_t wanted)
{
    if (wanted <= *capacity)
        return 0;
    size_t bigger = *capacity == 0 ? LIMIT_BLOCK : *capacity;
    while (bigger < wanted)
        bigger *= 2;
    uint8_t *fresh = aligned_alloc(LIMIT_BLOCK, bigger);
    if (fresh == NULL)
        return -ENOMEM;
    free(*memory);
    *memory = fresh;
    *capacity = bigger;
    return 0;
}

/* Copies out of a ring that its producer may be writing to at this moment. A data race by design,
 * kept out of sight of the thread sanitizer: what comes out is believed only after its checksum.
 * Octets are copied in a loop since memcpy would be watched; optimised builds make it a memcpy. */
__attribute__((no_sanitize("thread"), noinline)) static void copy_racing(uint8_t *out,
                                                                         const uint8_t *in,
                                                                         size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = in[i];
}

/* True when the header is that of the message's record at the place. */
static bool header_good(const struct spool_reader *reader, const struct record *record,
                        uint64_t generation, uint32_t offset)
{
    return record->magic == RECORD_MAGIC && record->generation == generation &&
           record->message_id == reader->message.message_id &&
           record->payload_len <= LIMIT_RECORD - RECORD_HEADER &&
           record->header_crc == record_header_crc(record, reader->spool->volume.salt, offset);
}

static bool payload_good(const struct record *record, const uint8_t *payload)
{
    return crc32c(0, payload, record->payload_len) == record->payload_crc;
}

/* A record of the message that may still be in its ring. */
struct ring_record {
    const struct staging *ring;
    uint64_t position;
    struct record header; /* a checked copy */
};

static bool in_ring(const struct ring_record *at)
{
    return atomic_load_explicit(&at->ring->overwritten, memory_order_acquire) <=
           at->position + at->ring->size;
}

/* Looks for a record of the message in its ring; false: not there any more. It can be found only if
 * it lies in the same stretch as the COMMIT, at the same distance. */
static bool find_in_ring(const struct spool_reader *reader, uint64_t generation, uint32_t offset,
                         struct ring_record *out)
{
    const struct spool_message *message = &reader->message;
    if (message->port >= reader->spool->writer.ring_count || generation != message->generation ||
        offset > message->offset || message->offset - offset > message->position)
        return false;
    out->ring = reader->spool->writer.rings[message->port];
    out->position = message->position - (message->offset - offset);
    if (!in_ring(out))
        return false;
    copy_racing((uint8_t *)&out->header, staging_at(out->ring, out->position), RECORD_HEADER);
    return header_good(reader, &out->header, generation, offset) &&
           record_size(out->header.payload_len) <= out->ring->size;
}

/* Fetches a record of the message out of its ring into the window; NULL: not there any more. */
static const struct record *fetch_from_ring(struct spool_reader *reader, uint64_t generation,
                                            uint32_t offset)
{
    struct ring_record found;
    if (!find_in_ring(reader, generation, offset, &found))
        return NULL;
    size_t len = found.header.payload_len;
    if (ensure(&reader->window, &reader->window_capacity, RECORD_HEADER + len) != 0)
        return NULL;
    uint8_t *payload = reader->window + RECORD_HEADER;
    reader->window_generation = 0;
    memcpy(reader->window, &found.header, RECORD_HEADER);
    copy_racing(payload, staging_at(found.ring, found.position) + RECORD_HEADER, len);
    if (!payload_good(&found.header, payload) || !in_ring(&found))
        return NULL;
    return (const struct record *)reader->window;
}

/* Returns the window's memory for a place of `len` octets, or NULL when it is not in the window. */
static const uint8_t *in_window(const struct spool_reader *reader, uint64_t generation,
                                uint64_t offset, size_t len)
{
    if (reader->window_generation != generation || offset < reader->window_offset ||
        offset + len > reader->window_offset + reader->window_len)
        return NULL;
    return reader->window + (offset - reader->window_offset);
}

/* Reads from `from` on into `ahead`. */
static bool fill_ahead(struct spool_ahead *ahead, const struct segment *segment, uint64_t from)
{
    size_t len = READER_AHEAD < segment->size - from ? READER_AHEAD : segment->size - from;

    if (ahead->blocks == NULL)
        ahead->blocks = aligned_alloc(LIMIT_BLOCK, READER_AHEAD);
    ahead->generation = 0;
    if (ahead->blocks == NULL || segment_read(segment, ahead->blocks, len, from) != 0)
        return false;
    ahead->generation = segment->generation;
    ahead->offset = from;
    ahead->len = len;
    return true;
}

/* Copies blocks that were read ahead into the window; false: they must be read. Reads ahead when
 * they lie shortly behind those that were wanted before. Who reads here and there pays for no more
 * than he needs. */
static bool take_ahead(struct spool_reader *reader, const struct segment *segment, uint64_t from,
                       uint64_t to)
{
    struct spool_ahead *ahead = reader->ahead;
    if (ahead == NULL || to - from > READER_AHEAD / 2)
        return false;
    bool next = ahead->before_generation == segment->generation && from >= ahead->before_offset &&
                from - ahead->before_offset <= READER_GAP;
    ahead->before_generation = segment->generation;
    ahead->before_offset = from;
    reader->window_old = ahead->generation == segment->generation && from >= ahead->offset &&
                         to <= ahead->offset + ahead->len;
    if (!reader->window_old && !(next && fill_ahead(ahead, segment, from)))
        return false;
    memcpy(reader->window, ahead->blocks + (from - ahead->offset), to - from);
    return true;
}

/* Reads [from, to) of a segment into the window, rounded out to blocks and cut at the segment's
 * end. */
static int fill_from(struct spool_reader *reader, const struct segment *segment, uint64_t from,
                     uint64_t to)
{
    from &= ~(uint64_t)(LIMIT_BLOCK - 1);
    to = (to + LIMIT_BLOCK - 1) & ~(uint64_t)(LIMIT_BLOCK - 1);
    if (to > segment->size)
        to = segment->size;
    if (from >= to)
        return -EBADMSG;
    reader->window_generation = 0;
    reader->window_old = false;
    int error = ensure(&reader->window, &reader->window_capacity, to - from);
    if (error == 0 && !take_ahead(reader, segment, from, to))
        error = segment_read(segment, reader->window, to - from, from);
    if (error != 0)
        return error;
    reader->window_generation = segment->generation;
    reader->window_offset = from;
    reader->window_len = to - from;
    return 0;
}

/* The same for a generation. What the caller's message does not keep is kept by us meanwhile. */
static int fill_window(struct spool_reader *reader, uint64_t generation, uint64_t from, uint64_t to)
{
    struct pool *pool = &reader->spool->pool;
    if (!reader->quiet) {
        const struct segment *segment = pool_find(pool, generation);
        return segment == NULL ? -EBADMSG : fill_from(reader, segment, from, to);
    }
    const struct segment *borrowed = pool_borrow(pool, generation);
    if (borrowed == NULL)
        return -EBADMSG;
    int error = fill_from(reader, borrowed, from, to);
    pool_release(pool, generation, 0);
    return error;
}

/* The one below, once. */
static int try_header(struct spool_reader *reader, const struct spool_place *place, uint64_t from,
                      uint64_t to, const struct record **out)
{
    const uint8_t *at = in_window(reader, place->generation, place->offset, RECORD_HEADER);
    if (at == NULL) {
        int error = fill_window(reader, place->generation, from, to);
        if (error != 0)
            return error;
        at = in_window(reader, place->generation, place->offset, RECORD_HEADER);
    }
    *out = (const struct record *)at;
    bool good = at != NULL && place->offset % RECORD_ALIGN == 0 &&
                header_good(reader, *out, place->generation, place->offset);
    return good ? 0 : -EBADMSG;
}

/* True when what was wrong may be right on disk: this was read ahead, and what was written since is
 * not in it. Throws it away. */
static bool outdated(struct spool_reader *reader, int error)
{
    if (error != -EBADMSG || reader->window_generation == 0 || !reader->window_old)
        return false;
    reader->window_generation = 0;
    reader->ahead->generation = 0;
    return true;
}

/* Returns the checked header of the record at a place, on disk, reading [from, to) when it is not
 * in the window. */
static int fetch_header(struct spool_reader *reader, const struct spool_place *place, uint64_t from,
                        uint64_t to, const struct record **out)
{
    int error = try_header(reader, place, from, to, out);
    return outdated(reader, error) ? try_header(reader, place, from, to, out) : error;
}

/* The one below, once. */
static int try_from_disk(struct spool_reader *reader, const struct spool_place *place,
                         uint64_t from, uint64_t to, const struct record **out)
{
    int error = fetch_header(reader, place, from, to, out);
    if (error != 0)
        return error;
    size_t size = RECORD_HEADER + (*out)->payload_len;
    if (in_window(reader, place->generation, place->offset, size) == NULL) {
        error = fill_window(reader, place->generation, place->offset, place->offset + size);
        if (error != 0)
            return error;
        error = fetch_header(reader, place, 0, 0, out);
        if (error != 0)
            return error;
    }
    return payload_good(*out, (const uint8_t *)(*out + 1)) ? 0 : -EBADMSG;
}

/* Returns the checked record at a place, on disk, with its payload; reads up to `to`, and more if
 * needed. */
static int fetch_from_disk(struct spool_reader *reader, const struct spool_place *place,
                           uint64_t from, uint64_t to, const struct record **out)
{
    int error = try_from_disk(reader, place, from, to, out);
    return outdated(reader, error) ? try_from_disk(reader, place, from, to, out) : error;
}

static int read_failed(struct spool_reader *reader, int error)
{
    struct spool *spool = reader->spool;
    const struct spool_message *message = &reader->message;
    char id[ID_TEXT_LEN + 1], segment[17];
    if (reader->quiet)
        return error;
    id_format(message->message_id, id);
    snprintf(segment, sizeof(segment), "%016" PRIx64, message->generation);
    pthread_mutex_lock(&spool->log_mutex);
    struct log_line line = log_begin(spool->shared_log, LOG_ERROR, "spool.read");
    log_string(&line, "id", id);
    log_string(&line, "segment", segment);
    log_number(&line, "offset", message->offset);
    log_string(&line, "error", error == -EBADMSG ? "damaged" : strerror(-error));
    log_end(&line);
    pthread_mutex_unlock(&spool->log_mutex);
    return error;
}

/* Fetches the COMMIT: from the ring, or from disk, then together with the text when that is near.
 */
static int fetch_commit(struct spool_reader *reader, const struct record **out)
{
    const struct spool_message *message = &reader->message;
    *out = fetch_from_ring(reader, message->generation, message->offset);
    if (*out != NULL)
        return (*out)->kind == RECORD_COMMIT ? 0 : -EBADMSG;
    struct spool_place place = {.generation = message->generation, .offset = message->offset};
    uint64_t from = message->offset;
    if (message->first_generation == message->generation &&
        message->text_len <= READER_STEP - READER_GAP &&
        message->offset - message->first_offset <= message->text_len + READER_GAP)
        from = message->first_offset;
    int error = fetch_from_disk(reader, &place, from, message->offset + READER_GUESS, out);
    if (error == 0 && (*out)->kind != RECORD_COMMIT)
        error = -EBADMSG;
    return error;
}

int spool_read(struct spool *spool, const struct spool_message *message,
               struct spool_reader *reader, struct envelope *envelope)
{
    reader->spool = spool;
    reader->message = *message;
    reader->window_generation = 0;
    reader->place_count = 0;
    spool_read_rewind(reader);
    const struct record *commit;
    int error = fetch_commit(reader, &commit);
    if (error == 0)
        error = ensure(&reader->form, &reader->form_capacity, commit->payload_len);
    if (error != 0)
        return read_failed(reader, error);
    memcpy(reader->form, commit + 1, commit->payload_len);
    reader->form_len = commit->payload_len;
    reader->last_generation = commit->previous_generation;
    reader->last_offset = commit->previous_offset;
    reader->parts = commit->part;
    if (!envelope_read(spool_read_form(reader), envelope) ||
        envelope->message_id != message->message_id || envelope->text_len != message->text_len)
        return read_failed(reader, -EBADMSG);
    return 0;
}

struct bytes spool_read_form(const struct spool_reader *reader)
{
    return bytes_make(reader->form, reader->form_len);
}

/* Fetches the BODY record at a place, with its payload. `to`: what it may be useful to read up to.
 */
static int fetch_part(struct spool_reader *reader, const struct spool_place *place, uint64_t to,
                      const struct record **out)
{
    *out = fetch_from_ring(reader, place->generation, place->offset);
    if (*out == NULL) {
        int error = fetch_from_disk(reader, place, place->offset, to, out);
        if (error != 0)
            return error;
    }
    return (*out)->kind == RECORD_BODY && (*out)->part == place->part ? 0 : -EBADMSG;
}

static int add_place(struct spool_reader *reader, const struct spool_place *place)
{
    if (reader->place_count == reader->place_capacity) {
        size_t capacity = reader->place_capacity == 0 ? 64 : reader->place_capacity * 2;
        struct spool_place *places = realloc(reader->places, capacity * sizeof *places);
        if (places == NULL)
            return -ENOMEM;
        reader->places = places;
        reader->place_capacity = capacity;
    }
    reader->places[reader->place_count++] = *place;
    return 0;
}

/* Follows the back links from the COMMIT to the first BODY record. */
static int find_places(struct spool_reader *reader)
{
    struct spool_place place = {.generation = reader->last_generation,
                                .offset = reader->last_offset,
                                .part = reader->parts};
    reader->place_count = 0;
    while (place.part > 0) {
        place.part--;
        int error = add_place(reader, &place);
        if (error != 0)
            return error;
        if (place.part == 0 && reader->parts == 1)
            return 0;
        /* Windows that end behind the header: the next ones lie before it. */
        uint64_t to = (uint64_t)place.offset + RECORD_HEADER;
        uint64_t from = to < READER_STEP ? 0 : to - READER_STEP;
        struct ring_record found;
        const struct record *record = &found.header;
        if (!find_in_ring(reader, place.generation, place.offset, &found))
            error = fetch_header(reader, &place, from, to, &record);
        if (error == 0 && (record->kind != RECORD_BODY || record->part != place.part))
            error = -EBADMSG;
        if (error != 0)
            return error;
        place.generation = record->previous_generation;
        place.offset = record->previous_offset;
    }
    return 0;
}

int spool_read_next(struct spool_reader *reader, struct bytes *piece)
{
    int error = reader->walking ? 0 : find_places(reader);
    if (!reader->walking)
        reader->places_left = reader->place_count;
    reader->walking = error == 0;
    *piece = bytes_make(NULL, 0);
    while (error == 0 && reader->places_left > 0) {
        const struct spool_place *place = &reader->places[reader->places_left - 1];
        uint64_t left = reader->message.text_len - reader->given;
        uint64_t step = left + READER_GAP < READER_STEP ? left + READER_GAP : READER_STEP;
        const struct record *record;
        error = fetch_part(reader, place, place->offset + step, &record);
        if (error == 0 && record->payload_len > left)
            error = -EBADMSG;
        if (error != 0)
            break;
        reader->places_left--;
        reader->given += record->payload_len;
        *piece = bytes_make(record + 1, record->payload_len);
        if (piece->len > 0)
            return 0;
    }
    if (error == 0 && reader->given != reader->message.text_len)
        error = -EBADMSG;
    return error == 0 ? 0 : read_failed(reader, error);
}

void spool_read_rewind(struct spool_reader *reader)
{
    reader->walking = false;
    reader->places_left = 0;
    reader->given = 0;
}

void spool_read_quietly(struct spool_reader *reader, bool quiet)
{
    reader->quiet = quiet;
}

void spool_read_ahead(struct spool_reader *reader, struct spool_ahead *ahead)
{
    reader->ahead = ahead;
}

int spool_read_text(struct spool_reader *reader, int (*sink)(void *user, struct bytes text),
                    void *user)
{
    spool_read_rewind(reader);
    for (;;) {
        struct bytes piece;
        int error = spool_read_next(reader, &piece);
        if (error != 0 || piece.len == 0)
            return error;
        int stopped = sink(user, piece);
        if (stopped != 0)
            return stopped;
    }
}

void spool_read_slim(struct spool_reader *reader)
{
    free(reader->form);
    free(reader->window);
    reader->form = reader->window = NULL;
    reader->form_len = reader->form_capacity = 0;
    reader->window_len = reader->window_capacity = 0;
    reader->window_generation = 0;
}

size_t spool_read_octets(const struct spool_reader *reader)
{
    return reader->form_capacity + reader->window_capacity +
           reader->place_capacity * sizeof *reader->places;
}

void spool_read_close(struct spool_reader *reader)
{
    free(reader->form);
    free(reader->window);
    free(reader->places);
    *reader = (struct spool_reader){0};
}

void spool_ahead_free(struct spool_ahead *ahead)
{
    free(ahead->blocks);
    *ahead = (struct spool_ahead){0};
}
