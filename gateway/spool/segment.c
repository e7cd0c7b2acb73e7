/* The life of a segment file. A file carries the name of a segment only while its header block is
 * durable: whatever happens to it before or between stands under the name "preparing". */
#include "gateway/spool/segment.h"

#include "gateway/base/check.h"
#include "gateway/spool/crc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SEGMENT_VERSION = 1,
    SEGMENT_ZEROS = 1024 * 1024, /* written at once while preparing */
    SEGMENT_PARTS = LIMIT_PORTS, /* iovecs of one write at most */
};

struct segment_header {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    uint8_t uuid[16];
    uint64_t generation;
    uint64_t size;
    uint32_t reserved2;
    uint32_t crc; /* CRC32C of all above */
};
static_assert(sizeof(struct segment_header) == 56, "no padding on disk");

static const char segment_magic[8] = {'R', 'M', 'X', 'S', 'E', 'G', 'M', '1'};

static int kernel_allocate(int descriptor, off_t size)
{
    errno = posix_fallocate(descriptor, 0, size);
    return errno == 0 ? 0 : -1;
}

const struct segment_io segment_io_kernel = {
    .write = pwritev2, .sync = fdatasync, .allocate = kernel_allocate};

int segment_open_flags(const struct volume *volume)
{
    return O_RDWR | O_CLOEXEC | O_NOFOLLOW | (volume->direct ? O_DIRECT : 0);
}

void segment_name(const struct segment *segment, char name[SEGMENT_NAME_MAX])
{
    if (segment->renamed)
        snprintf(name, SEGMENT_NAME_MAX, "%016" PRIx64 ".poisoned.%" PRIx64, segment->generation,
                 segment->trusted_end);
    else
        snprintf(name, SEGMENT_NAME_MAX, "%016" PRIx64 ".segment", segment->generation);
}

static void preparing_name(uint64_t generation, char name[SEGMENT_NAME_MAX])
{
    snprintf(name, SEGMENT_NAME_MAX, "%016" PRIx64 ".preparing", generation);
}

static int sync_descriptor(const struct volume *volume, int descriptor)
{
    int result;
    do
        result = volume->io->sync(descriptor);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : -errno;
}

static int rename_durably(const struct volume *volume, const char *from, const char *to)
{
    if (renameat(volume->directory, from, volume->directory, to) != 0)
        return -errno;
    return fsync(volume->directory) == 0 ? 0 : -errno;
}

/* Drops `done` octets from the front of the parts. */
static void skip_parts(struct iovec **parts, int *count, size_t done)
{
    while (*count > 0 && done >= (*parts)->iov_len) {
        done -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (done != 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + done;
        (*parts)->iov_len -= done;
    }
}

static int write_all(const struct volume *volume, int descriptor, struct iovec *parts, int count,
                     uint64_t offset, int flags)
{
    while (count > 0) {
        ssize_t done = volume->io->write(descriptor, parts, count, (off_t)offset, flags);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        /* Direct I/O can't go on between blocks; a disk that stops there is a broken one. */
        if (done == 0 || (volume->direct && done % LIMIT_BLOCK != 0))
            return -EIO;
        offset += (uint64_t)done;
        skip_parts(&parts, &count, (size_t)done);
    }
    return 0;
}

int segment_write(const struct volume *volume, const struct segment *segment, struct iovec *parts,
                  int count, uint64_t offset)
{
    CHECK(offset % LIMIT_BLOCK == 0 && count <= SEGMENT_PARTS);
    int flags = volume->sync == SPOOL_SYNC_DSYNC ? RWF_DSYNC : 0;
    int error = write_all(volume, segment->descriptor, parts, count, offset, flags);
    if (error == 0 && volume->sync == SPOOL_SYNC_FDATASYNC)
        error = sync_descriptor(volume, segment->descriptor);
    return error;
}

int segment_read(const struct segment *segment, void *out, size_t len, uint64_t offset)
{
    CHECK(offset % LIMIT_BLOCK == 0 && len % LIMIT_BLOCK == 0);
    uint8_t *at = out;
    while (len > 0) {
        ssize_t done = pread(segment->descriptor, at, len, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0 || done % LIMIT_BLOCK != 0)
            return done < 0 ? -errno : -EIO;
        at += done;
        offset += (uint64_t)done;
        len -= (size_t)done;
    }
    return 0;
}

enum segment_header_result segment_read_header(struct segment *segment, uint8_t uuid[16])
{
    alignas(LIMIT_BLOCK) static _Thread_local uint8_t block[LIMIT_BLOCK];
    struct segment_header header;
    if (segment_read(segment, block, sizeof block, 0) != 0)
        return SEGMENT_HEADER_DAMAGED;
    memcpy(&header, block, sizeof header);
    if (memcmp(header.magic, segment_magic, sizeof segment_magic) != 0 ||
        header.crc != crc32c(0, &header, offsetof(struct segment_header, crc)))
        return SEGMENT_HEADER_DAMAGED;
    if (header.version != SEGMENT_VERSION)
        return SEGMENT_HEADER_NEWER;
    segment->generation = header.generation;
    segment->size = header.size;
    memcpy(uuid, header.uuid, sizeof header.uuid);
    return SEGMENT_HEADER_GOOD;
}

/* Writes the header block, not yet synced. */
static int write_header(const struct volume *volume, const struct segment *segment, uint8_t *block)
{
    struct segment_header header = {
        .version = SEGMENT_VERSION, .generation = segment->generation, .size = segment->size};
    memcpy(header.magic, segment_magic, sizeof segment_magic);
    memcpy(header.uuid, volume->uuid, sizeof header.uuid);
    header.crc = crc32c(0, &header, offsetof(struct segment_header, crc));
    memset(block, 0, LIMIT_BLOCK);
    memcpy(block, &header, sizeof header);
    struct iovec part = {.iov_base = block, .iov_len = LIMIT_BLOCK};
    return write_all(volume, segment->descriptor, &part, 1, 0, 0);
}

/* Fills the file with zeros, so that no later write has to allocate or convert anything. */
static int write_zeros(const struct volume *volume, const struct segment *segment, uint8_t *zeros)
{
    int error = volume->io->allocate(segment->descriptor, (off_t)segment->size) == 0 ? 0 : -errno;
    for (uint64_t offset = 0; error == 0 && offset < segment->size; offset += SEGMENT_ZEROS) {
        uint64_t left = segment->size - offset;
        struct iovec part = {.iov_base = zeros,
                             .iov_len = left < SEGMENT_ZEROS ? left : SEGMENT_ZEROS};
        error = write_all(volume, segment->descriptor, &part, 1, offset, 0);
    }
    return error;
}

/* The common end of making and recycling: header, sync, name. */
static int finish_preparing(const struct volume *volume, const struct segment *segment,
                            const char *preparing, uint8_t *block)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(segment, name);
    int error = write_header(volume, segment, block);
    if (error == 0)
        error = sync_descriptor(volume, segment->descriptor);
    if (error == 0)
        error = rename_durably(volume, preparing, name);
    return error;
}

struct segment *segment_create(const struct volume *volume, uint64_t generation)
{
    struct segment *segment = calloc(1, sizeof *segment);
    uint8_t *zeros = aligned_alloc(LIMIT_BLOCK, SEGMENT_ZEROS);
    int error = segment == NULL || zeros == NULL ? -ENOMEM : 0;
    if (error == 0) {
        char preparing[SEGMENT_NAME_MAX];
        preparing_name(generation, preparing);
        memset(zeros, 0, SEGMENT_ZEROS);
        segment->generation = generation;
        segment->size = volume->segment_size;
        segment->end = SEGMENT_START;
        segment->descriptor = openat(volume->directory, preparing,
                                     segment_open_flags(volume) | O_CREAT | O_EXCL, 0600);
        error = segment->descriptor < 0 ? -errno : 0;
        if (error == 0)
            error = write_zeros(volume, segment, zeros);
        if (error == 0)
            error = finish_preparing(volume, segment, preparing, zeros);
        if (error != 0 && segment->descriptor >= 0) {
            unlinkat(volume->directory, preparing, 0);
            close(segment->descriptor);
        }
    }
    free(zeros);
    if (error == 0)
        return segment;
    free(segment);
    errno = -error;
    return NULL;
}

int segment_recycle(const struct volume *volume, struct segment *segment, uint64_t generation)
{
    char name[SEGMENT_NAME_MAX];
    char preparing[SEGMENT_NAME_MAX];
    segment_name(segment, name);
    preparing_name(generation, preparing);
    int error = rename_durably(volume, name, preparing);
    uint8_t *block = aligned_alloc(LIMIT_BLOCK, LIMIT_BLOCK);
    if (error == 0 && block == NULL)
        error = -ENOMEM;
    if (error == 0) {
        segment->generation = generation;
        segment->end = SEGMENT_START;
        atomic_store(&segment->closed, false);
        atomic_store(&segment->live_octets, 0);
        error = finish_preparing(volume, segment, preparing, block);
        if (error != 0)
            unlinkat(volume->directory, preparing, 0);
    }
    free(block);
    return error;
}

int segment_mark_poisoned(const struct volume *volume, struct segment *segment)
{
    char from[SEGMENT_NAME_MAX];
    char to[SEGMENT_NAME_MAX];
    segment_name(segment, from);
    segment->renamed = true;
    segment_name(segment, to);
    int error = rename_durably(volume, from, to);
    if (error != 0)
        segment->renamed = false;
    return error;
}

void segment_delete(const struct volume *volume, struct segment *segment)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(segment, name);
    unlinkat(volume->directory, name, 0);
    segment_free(segment);
}

void segment_retire(const struct volume *volume, struct segment *segment)
{
    char from[SEGMENT_NAME_MAX];
    char to[SEGMENT_NAME_MAX];
    segment_name(segment, from);
    snprintf(to, sizeof to, "%016" PRIx64 ".damaged", segment->generation);
    /* When this fails the next recovery finds the damage again. */
    (void)rename_durably(volume, from, to);
    segment_free(segment);
}

void segment_free(struct segment *segment)
{
    if (segment == NULL)
        return;
    close(segment->descriptor);
    free(segment);
}
