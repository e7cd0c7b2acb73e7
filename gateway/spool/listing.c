/* Reading the directory. A segment whose header block is damaged is not lost: its name says the
 * generation, and every record in it proves by itself that it belongs there. */
#include "gateway/spool/listing.h"

#include "gateway/base/check.h"
#include "gateway/spool/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_DIGITS = 16 };

/* Reads up to `max` lower-case hexadecimal digits; returns how many there were. */
static size_t read_hex(const char *text, size_t max, uint64_t *out)
{
    size_t len = 0;
    for (*out = 0; len < max; len++) {
        char c = text[len];
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out << 4 | (uint64_t)(c - 'a' + 10);
        else
            break;
    }
    return len;
}

struct listing_name listing_name_read(const char *text)
{
    struct listing_name name = {.kind = LISTING_FOREIGN};
    if (read_hex(text, NAME_DIGITS, &name.generation) != NAME_DIGITS || name.generation == 0)
        return name;
    const char *rest = text + NAME_DIGITS;
    static const char poisoned[] = ".poisoned.";
    if (strcmp(rest, ".segment") == 0) {
        name.kind = LISTING_SEGMENT;
    } else if (strcmp(rest, ".preparing") == 0) {
        name.kind = LISTING_PREPARING;
    } else if (strcmp(rest, ".damaged") == 0) {
        name.kind = LISTING_DAMAGED;
    } else if (strncmp(rest, poisoned, sizeof poisoned - 1) == 0) {
        rest += sizeof poisoned - 1;
        size_t len = read_hex(rest, NAME_DIGITS, &name.trusted_end);
        if (len != 0 && rest[len] == '\0')
            name.kind = LISTING_POISONED;
    }
    return name;
}

/* The listing in the making. */
struct reading {
    struct listing *listing;
    struct volume *volume;
    struct log_port *log;
    bool uuid_known;
    char *error;
    size_t error_size;
};

static bool refuse(const struct reading *reading, const char *what, const char *name,
                   const char *why)
{
    snprintf(reading->error, reading->error_size, "spool: %s%s%s", what, name, why);
    return false;
}

/* The same for a system call that failed. */
static bool refuse_call(const struct reading *reading, const char *what, const char *name)
{
    snprintf(reading->error, reading->error_size, "spool: can't %s%s: %s", what, name,
             strerror(errno));
    return false;
}

static bool add_file(const struct reading *reading, struct segment *segment, uint64_t limit)
{
    struct listing *listing = reading->listing;
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 64 : listing->capacity * 2;
        struct listing_file *files = realloc(listing->files, capacity * sizeof *files);
        if (files == NULL)
            return refuse(reading, "no memory", "", "");
        listing->files = files;
        listing->capacity = capacity;
    }
    listing->files[listing->count++] = (struct listing_file){.segment = segment, .limit = limit};
    return true;
}

/* Says what is wrong with a file that is read all the same. */
static void complain(const struct reading *reading, struct segment *segment, const char *text)
{
    reading->listing->damaged++;
    segment->damaged = true;
    log_message(reading->log, LOG_ERROR, "spool.damaged", "segment %016" PRIx64 ": %s",
                segment->generation, text);
}

/* Compares the header block with the name and the file. False: the spool must not be used. */
static bool check_header(struct reading *reading, struct segment *segment, const char *text,
                         uint64_t generation, uint64_t file_size)
{
    uint8_t uuid[16];
    enum segment_header_result header = segment_read_header(segment, uuid);
    if (header == SEGMENT_HEADER_NEWER)
        return refuse(reading, "segment ", text, " was written by a newer version");
    if (header == SEGMENT_HEADER_GOOD) {
        if (!reading->uuid_known)
            memcpy(reading->volume->uuid, uuid, sizeof uuid);
        reading->uuid_known = true;
        if (memcmp(reading->volume->uuid, uuid, sizeof uuid) != 0)
            return refuse(reading, "segment ", text, " belongs to another spool");
    }
    if (header == SEGMENT_HEADER_GOOD && segment->generation != generation)
        return refuse(reading, "segment ", text,
                      " carries the header of another generation: it was renamed");
    bool short_file = header == SEGMENT_HEADER_GOOD && segment->size > file_size;
    segment->generation = generation;
    if (header != SEGMENT_HEADER_GOOD || segment->size > file_size)
        segment->size = file_size;
    if (header != SEGMENT_HEADER_GOOD)
        complain(reading, segment, "the header block is damaged");
    if (short_file)
        complain(reading, segment, "the file is shorter than it was made");
    return true;
}

static bool open_segment(struct reading *reading, const struct listing_name *name, const char *text)
{
    const struct volume *volume = reading->volume;
    struct stat status;
    int descriptor = openat(volume->directory, text, segment_open_flags(volume));
    if (descriptor < 0)
        return refuse_call(reading, "open segment ", text);
    struct segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL || fstat(descriptor, &status) != 0) {
        refuse_call(reading, "read segment ", text);
        free(segment);
        close(descriptor);
        return false;
    }
    segment->descriptor = descriptor;
    uint64_t file_size = (uint64_t)status.st_size & ~(uint64_t)(LIMIT_BLOCK - 1);
    if (!check_header(reading, segment, text, name->generation, file_size)) {
        segment_free(segment);
        return false;
    }
    bool poisoned = name->kind == LISTING_POISONED;
    atomic_store(&segment->closed, true);
    atomic_store(&segment->poisoned, poisoned);
    segment->renamed = poisoned;
    segment->trusted_end = name->trusted_end;
    uint64_t limit =
        poisoned && name->trusted_end < segment->size ? name->trusted_end : segment->size;
    if (add_file(reading, segment, limit))
        return true;
    segment_free(segment);
    return false;
}

static bool read_entry(struct reading *reading, const char *text)
{
    struct listing_name name = listing_name_read(text);
    if (name.kind == LISTING_FOREIGN)
        return true;
    if (name.generation > reading->listing->generation_max)
        reading->listing->generation_max = name.generation;
    if (name.kind == LISTING_DAMAGED)
        return true;
    if (name.kind == LISTING_PREPARING)
        return unlinkat(reading->volume->directory, text, 0) == 0 ||
               refuse_call(reading, "remove ", text);
    return open_segment(reading, &name, text);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = ((const struct listing_file *)left)->segment->generation;
    uint64_t b = ((const struct listing_file *)right)->segment->generation;
    return a < b ? -1 : a > b;
}

bool listing_read(struct listing *listing, struct volume *volume, bool uuid_known,
                  struct log_port *log, char *error, size_t error_size)
{
    *listing = (struct listing){0};
    struct reading reading = {listing, volume, log, uuid_known, error, error_size};
    int descriptor = openat(volume->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (directory == NULL) {
        if (descriptor >= 0)
            close(descriptor);
        return refuse_call(&reading, "list the directory", "");
    }
    bool good = true;
    errno = 0;
    for (struct dirent *entry = readdir(directory); good && entry != NULL;
         entry = readdir(directory)) {
        good = read_entry(&reading, entry->d_name);
        errno = 0;
    }
    if (good && errno != 0)
        good = refuse_call(&reading, "list the directory", "");
    closedir(directory);
    if (listing->count != 0)
        qsort(listing->files, listing->count, sizeof *listing->files, compare);
    for (size_t i = 1; good && i < listing->count; i++)
        if (listing->files[i].segment->generation == listing->files[i - 1].segment->generation)
            good = refuse(&reading, "two segments have the same generation", "", "");
    return good;
}

void listing_free(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        segment_free(listing->files[i].segment);
    free(listing->files);
    *listing = (struct listing){0};
}
