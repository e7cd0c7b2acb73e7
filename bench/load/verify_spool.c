/* The spool of a ringmx that is stopped (docs/spool.md), read as recovery would read it and without
 * a change: a message is there from its COMMIT until its recipients are all done. Each message is
 * judged when its COMMIT comes, so that its text can be forgotten. */
#include "bench/load/verify.h"

#include "gateway/spool/envelope.h"
#include "gateway/spool/listing.h"
#include "gateway/spool/living.h"
#include "gateway/spool/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A segment file. */
struct file {
    struct segment segment;
    uint64_t limit; /* what may be read of it */
};

/* A message whose COMMIT has not come: its BODY records so far. Found by its id, in a tree. */
struct open_message {
    uint64_t message_id;
    uint64_t last_generation;
    uint32_t last_offset;
    uint32_t parts;
    uint8_t *text;
    size_t len, room;
};

/* What verify_read said of a committed message. */
struct judged {
    char id[VERIFY_ID_MAX];
    uint32_t id_len; /* 0: none */
    uint32_t sum;
    bool whole;
};

struct reading {
    const char *path;
    struct volume volume;
    bool uuid_known;
    int lock;
    struct file *files;
    size_t file_count;
    struct scan scan;
    uint64_t highest, previous_highest; /* sequences, as in docs/spool.md */
    void *open;                         /* tree of struct open_message */
    struct living_table living;         /* message.position is the index in `judged` */
    struct judged *judged;
    size_t judged_count, judged_room;
    char *error;
    size_t error_size;
};

static bool refuse(struct reading *reading, const char *name, const char *why)
{
    snprintf(reading->error, reading->error_size, "%s/%s: %s", reading->path, name, why);
    return false;
}

/* --- files --- */

/* name_read tells whether a name is that of a segment with records in it. */
static bool name_read(const char *text, struct listing_name *name)
{
    *name = listing_name_read(text);
    return name->kind == LISTING_SEGMENT || name->kind == LISTING_POISONED;
}

bool verify_is_spool(const char *path)
{
    struct listing_name name;
    bool found = false;
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory != NULL && !found && (entry = readdir(directory)) != NULL;)
        found = name_read(entry->d_name, &name);
    if (directory != NULL)
        closedir(directory);
    return found;
}

/* lock_read makes sure that no gateway uses the spool, and takes its uuid from the lock file. */
static bool lock_read(struct reading *reading)
{
    struct {
        uint8_t uuid[16];
        uint32_t crc;
    } content;
    reading->lock = openat(reading->volume.directory, "lock", O_RDONLY | O_CLOEXEC);
    if (reading->lock < 0)
        return errno == ENOENT || refuse(reading, "lock", strerror(errno));
    if (flock(reading->lock, LOCK_SH | LOCK_NB) != 0)
        return refuse(reading, "lock", "a gateway is at work here; stop it first");
    if (pread(reading->lock, &content, sizeof content, 0) == (ssize_t)sizeof content &&
        content.crc == crc32c(0, content.uuid, sizeof content.uuid)) {
        memcpy(reading->volume.uuid, content.uuid, sizeof content.uuid);
        reading->uuid_known = true;
    }
    return true;
}

static bool file_open(struct reading *reading, const char *name, const struct listing_name *parts)
{
    struct stat status;
    uint8_t uuid[16];
    struct file *files =
        realloc(reading->files, (reading->file_count + 1) * sizeof *reading->files);
    if (files == NULL)
        return refuse(reading, name, "no memory");
    reading->files = files;
    struct file *file = &files[reading->file_count];
    memset(file, 0, sizeof *file);
    file->segment.descriptor = openat(reading->volume.directory, name, O_RDONLY | O_CLOEXEC);
    if (file->segment.descriptor < 0)
        return refuse(reading, name, strerror(errno));
    reading->file_count++;
    if (fstat(file->segment.descriptor, &status) < 0)
        return refuse(reading, name, strerror(errno));
    uint64_t size = (uint64_t)status.st_size & ~(uint64_t)(LIMIT_BLOCK - 1);
    enum segment_header_result header = segment_read_header(&file->segment, uuid);
    if (header == SEGMENT_HEADER_NEWER)
        return refuse(reading, name, "a newer version wrote this");
    if (header == SEGMENT_HEADER_GOOD && !reading->uuid_known)
        memcpy(reading->volume.uuid, uuid, sizeof uuid);
    if (header == SEGMENT_HEADER_GOOD) {
        reading->uuid_known = true;
        if (memcmp(reading->volume.uuid, uuid, sizeof uuid) != 0)
            return refuse(reading, name, "belongs to another spool");
        if (file->segment.generation != parts->generation)
            return refuse(reading, name, "was renamed");
    }
    if (header != SEGMENT_HEADER_GOOD || file->segment.size > size)
        file->segment.size = size;
    file->segment.generation = parts->generation;
    bool trusted = parts->kind == LISTING_SEGMENT || parts->trusted_end > file->segment.size;
    file->limit = trusted ? file->segment.size : parts->trusted_end;
    return true;
}

static int file_compare(const void *left, const void *right)
{
    uint64_t a = ((const struct file *)left)->segment.generation;
    uint64_t b = ((const struct file *)right)->segment.generation;
    return a < b ? -1 : a > b;
}

static bool files_open(struct reading *reading)
{
    DIR *directory = opendir(reading->path);
    if (directory == NULL)
        return refuse(reading, "", strerror(errno));
    reading->volume.directory = dirfd(directory);
    bool good = lock_read(reading);
    for (struct dirent *entry; good && (entry = readdir(directory)) != NULL;) {
        struct listing_name name;
        if (name_read(entry->d_name, &name))
            good = file_open(reading, entry->d_name, &name);
    }
    closedir(directory);
    reading->volume.salt = record_salt(reading->volume.uuid);
    if (good)
        qsort(reading->files, reading->file_count, sizeof *reading->files, file_compare);
    return good;
}

/* --- records --- */

static int open_compare(const void *left, const void *right)
{
    uint64_t a = ((const struct open_message *)left)->message_id;
    uint64_t b = ((const struct open_message *)right)->message_id;
    return a < b ? -1 : a > b;
}

static void open_free(void *message)
{
    free(((struct open_message *)message)->text);
    free(message);
}

static struct open_message *open_find(struct reading *reading, uint64_t message_id)
{
    struct open_message key = {.message_id = message_id};
    struct open_message **found = tfind(&key, &reading->open, open_compare);
    return found != NULL ? *found : NULL;
}

static void open_remove(struct reading *reading, struct open_message *message)
{
    tdelete(message, &reading->open, open_compare);
    open_free(message);
}

static bool open_append(struct open_message *message, const struct scan_item *item)
{
    const struct record *record = &item->header;
    if (message->len + record->payload_len > message->room) {
        message->room = (message->len + record->payload_len) * 2;
        uint8_t *text = realloc(message->text, message->room);
        if (text == NULL)
            return false;
        message->text = text;
    }
    memcpy(message->text + message->len, item->payload, record->payload_len);
    message->len += record->payload_len;
    message->last_generation = record->generation;
    message->last_offset = (uint32_t)item->offset;
    message->parts++;
    return true;
}

/* Parts come in order, each with the place of the one before; a part 0 begins anew (a copy). False:
 * no memory. */
static bool take_body(struct reading *reading, const struct scan_item *item)
{
    const struct record *record = &item->header;
    struct open_message *message = open_find(reading, record->message_id);
    bool follows = message != NULL && message->parts == record->part &&
                   message->last_generation == record->previous_generation &&
                   message->last_offset == record->previous_offset;
    if (message != NULL && !follows) {
        open_remove(reading, message);
        message = NULL;
    }
    if (message == NULL && record->part != 0)
        return true;
    if (message == NULL) {
        message = calloc(1, sizeof *message);
        if (message == NULL)
            return false;
        message->message_id = record->message_id;
        if (tsearch(message, &reading->open, open_compare) == NULL) {
            free(message);
            return false;
        }
    }
    return open_append(message, item);
}

/* judge keeps what verify is to hear of a message. False: no memory. */
static bool judge(struct reading *reading, const struct open_message *message)
{
    if (reading->judged_count == reading->judged_room) {
        reading->judged_room = reading->judged_room * 2 + 1024;
        struct judged *judged =
            realloc(reading->judged, reading->judged_room * sizeof *reading->judged);
        if (judged == NULL)
            return false;
        reading->judged = judged;
    }
    struct judged *judged = &reading->judged[reading->judged_count++];
    struct verify_found found = {0};
    verify_read(message != NULL && message->len > 0 ? message->text : (const uint8_t *)"",
                message != NULL ? message->len : 0, &found);
    *judged = (struct judged){.sum = found.sum, .whole = found.whole};
    if (found.id != NULL) {
        judged->id_len = (uint32_t)found.id_len;
        memcpy(judged->id, found.id, found.id_len);
    }
    return true;
}

static bool take_commit(struct reading *reading, const struct scan_item *item)
{
    const struct record *record = &item->header;
    struct open_message *text = open_find(reading, record->message_id);
    struct envelope envelope;
    if (!envelope_read(bytes_make(item->payload, record->payload_len), &envelope) ||
        envelope.message_id != record->message_id || record->message_id == 0)
        return true;
    bool complete = record->part == 0 ? envelope.text_len == 0
                                      : text != NULL && text->parts == record->part &&
                                            text->len == envelope.text_len &&
                                            text->last_generation == record->previous_generation &&
                                            text->last_offset == record->previous_offset;
    struct spool_message message = {.message_id = record->message_id,
                                    .generation = record->generation,
                                    .offset = (uint32_t)item->offset,
                                    .text_len = envelope.text_len,
                                    .recipient_count = envelope.recipient_count,
                                    .port = SPOOL_PORT_NONE,
                                    .position = reading->judged_count};
    struct living *living = living_add(&reading->living, record->message_id);
    if (living == NULL || !living_commit(living, &message, !complete) || !judge(reading, text))
        return false;
    if (living_over(living))
        living_remove(&reading->living, living);
    if (text != NULL)
        open_remove(reading, text);
    return true;
}

static bool take_done(struct reading *reading, const struct scan_item *item)
{
    size_t count = item->header.payload_len / sizeof(struct record_done);
    for (size_t i = 0; i < count; i++) {
        struct record_done done;
        memcpy(&done, item->payload + i * sizeof done, sizeof done);
        struct living *living = living_find(&reading->living, done.message_id);
        /* In front of the COMMIT of a copy. */
        if (living == NULL && open_find(reading, done.message_id) != NULL &&
            (living = living_add(&reading->living, done.message_id)) == NULL)
            return false;
        if (living == NULL)
            continue;
        if (!living_done(living, &done))
            return false;
        if (living_over(living))
            living_remove(&reading->living, living);
    }
    return true;
}

static bool take_record(struct reading *reading, const struct scan_item *item)
{
    struct open_message *message;
    switch ((enum record_kind)item->header.kind) {
    case RECORD_BODY: return take_body(reading, item);
    case RECORD_COMMIT: return take_commit(reading, item);
    case RECORD_DONE: return take_done(reading, item);
    case RECORD_ABORT:
        message = open_find(reading, item->header.message_id);
        if (message != NULL)
            open_remove(reading, message);
        return true;
    case RECORD_PAD: return true;
    }
    return true;
}

/* --- segments --- */

/* gap_is_end tells whether the walk of a segment ends at a gap: where the last batch of all is
 * torn, what remains of it is not believed, as recovery cuts it off ("Batches and records"). */
static bool gap_is_end(const struct reading *reading, const struct scan_item *item)
{
    if (item->gap_end == 0)
        return true;
    if (item->offset != item->batch_end)
        return item->sequence == reading->highest;
    uint64_t next_max = item->sequence != 0 ? item->sequence + 1 : reading->previous_highest + 3;
    return item->gap_sequence == reading->highest && item->gap_sequence <= next_max;
}

/* False: no memory. */
static bool walk_segment(struct reading *reading, const struct file *file)
{
    struct scan_item item;
    bool more = true;
    scan_begin(&reading->scan, &file->segment, file->limit);
    while (more) {
        switch (scan_next(&reading->scan, &item)) {
        case SCAN_RECORD:
            if (!take_record(reading, &item))
                return false;
            break;
        case SCAN_PAYLOAD_DAMAGED: more = item.header.sequence != reading->highest; break;
        case SCAN_GAP: more = !gap_is_end(reading, &item); break;
        case SCAN_END: more = false; break;
        }
    }
    if (reading->scan.sequence > reading->previous_highest)
        reading->previous_highest = reading->scan.sequence;
    return true;
}

static bool walk(struct reading *reading)
{
    size_t written = 0;
    for (size_t i = reading->file_count; i > 0 && reading->highest == 0; i--) {
        const struct file *file = &reading->files[i - 1];
        reading->highest = scan_highest(&reading->scan, &file->segment, file->limit);
        written = i;
    }
    for (size_t i = 0; i < written; i++)
        if (!walk_segment(reading, &reading->files[i]))
            return refuse(reading, "", "no memory");
    return true;
}

/* report says what lives. A message of which parts are missing is not whole. */
static void report(struct verify *verify, struct reading *reading)
{
    living_sort(&reading->living);
    for (size_t i = 0; i < reading->living.used; i++) {
        const struct living *living = &reading->living.entries[i];
        const struct spool_message *message = &living->message;
        if (!living->committed)
            continue;
        char place[512];
        const struct judged *judged = &reading->judged[message->position];
        snprintf(place, sizeof place, "%s, segment %016" PRIx64 " at %" PRIu32, reading->path,
                 message->generation, message->offset);
        verify_found(verify, &(struct verify_found){.id = judged->id_len > 0 ? judged->id : NULL,
                                                    .id_len = judged->id_len,
                                                    .sum = judged->sum,
                                                    .whole = judged->whole && !living->damaged,
                                                    .place = place});
    }
}

bool verify_spool(struct verify *verify, const char *path, char *error, size_t size)
{
    struct reading reading = {.path = path, .lock = -1, .error = error, .error_size = size};
    bool good = files_open(&reading);
    if (good) {
        bool memory = scan_init(&reading.scan, &reading.volume);
        memory &= living_init(&reading.living);
        good = memory ? walk(&reading) : refuse(&reading, "", "no memory");
    }
    if (good)
        report(verify, &reading);
    tdestroy(reading.open, open_free);
    free(reading.judged);
    living_free(&reading.living);
    scan_free(&reading.scan);
    for (size_t i = 0; i < reading.file_count; i++)
        close(reading.files[i].segment.descriptor);
    free(reading.files);
    if (reading.lock >= 0)
        close(reading.lock);
    return good;
}
