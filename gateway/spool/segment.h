/* One segment file: its names, its header block, and aligned reading and writing. No locks and no
 * knowledge of records. docs/spool.md, "Files" and "Segment". */
#ifndef GATEWAY_SPOOL_SEGMENT_H
#define GATEWAY_SPOOL_SEGMENT_H

#include "gateway/base/limits.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum spool_sync { SPOOL_SYNC_AUTO, SPOOL_SYNC_DSYNC, SPOOL_SYNC_FDATASYNC, SPOOL_SYNC_NONE };

enum { SEGMENT_START = LIMIT_BLOCK /* where the first batch lies */, SEGMENT_NAME_MAX = 64 };

/* The system calls that can fail for reasons of the disk; tests put their own in. As pwritev2,
 * fdatasync and posix_fallocate, but for the result: -1 and errno in all of them. */
struct segment_io {
    ssize_t (*write)(int descriptor, const struct iovec *parts, int count, off_t offset, int flags);
    int (*sync)(int descriptor);
    int (*allocate)(int descriptor, off_t size);
};
extern const struct segment_io segment_io_kernel;

/* What all segments of a spool have in common. Constant while threads run. */
struct volume {
    int directory; /* descriptor */
    const struct segment_io *io;
    uint64_t segment_size;
    enum spool_sync sync; /* never SPOOL_SYNC_AUTO once the writer runs */
    bool direct;          /* the file system has O_DIRECT */
    uint8_t uuid[16];
    uint32_t salt; /* record_salt(uuid) */
};

struct segment {
    int descriptor;
    uint64_t generation;
    uint64_t size;
    uint64_t end;          /* where the next batch goes; the writer's (recovery's before) */
    uint64_t trusted_end;  /* poisoned: what lies from here on is not believed */
    bool renamed;          /* poisoned: the file's name says so; the preparer's */
    bool damaged;          /* recovery found damage in it: the file is kept for people to see */
    _Atomic uint64_t live; /* living and open messages whose first record is here */
    _Atomic uint64_t live_octets; /* what the living ones take, about */
    _Atomic bool closed;          /* never written again */
    _Atomic bool poisoned;
};

/* segment_open_flags is what a segment is opened with, O_DIRECT when the volume has it. */
int segment_open_flags(const struct volume *volume);

/* segment_create makes a segment file, zeroed and synced under its name, and returns it, owned;
 * NULL with errno: nothing is left then. */
struct segment *segment_create(const struct volume *volume, uint64_t generation);

/* segment_recycle makes a dead segment a fresh one of a higher generation. 0, or -errno: then it
 * must be deleted. */
int segment_recycle(const struct volume *volume, struct segment *segment, uint64_t generation)
    __attribute__((warn_unused_result));

/* segment_delete removes the file and frees `segment`; segment_free only closes it. */
void segment_delete(const struct volume *volume, struct segment *segment);
void segment_free(struct segment *segment);

/* segment_retire renames the file to what recovery leaves alone, and frees `segment`. */
void segment_retire(const struct volume *volume, struct segment *segment);

/* segment_name writes the file's name: by generation, and whether it is poisoned under that name.
 */
void segment_name(const struct segment *segment, char name[SEGMENT_NAME_MAX]);

/* segment_mark_poisoned renames the file so that recovery does not trust it from trusted_end on. 0
 * or -errno. */
int segment_mark_poisoned(const struct volume *volume, struct segment *segment)
    __attribute__((warn_unused_result));

enum segment_header_result {
    SEGMENT_HEADER_GOOD,
    SEGMENT_HEADER_DAMAGED,
    SEGMENT_HEADER_NEWER, /* of a version that we do not know */
};

/* segment_read_header reads the header block into `segment` (generation, size) and `uuid`. */
enum segment_header_result segment_read_header(struct segment *segment, uint8_t uuid[16]);

/* segment_write writes whole blocks at an aligned offset and makes them durable by the volume's
 * way; short writes are continued. Changes `parts`. 0, or -errno. */
int segment_write(const struct volume *volume, const struct segment *segment, struct iovec *parts,
                  int count, uint64_t offset) __attribute__((warn_unused_result));

/* segment_read reads whole blocks into aligned memory; 0 or -errno (EIO also at the end of the
 * file). */
int segment_read(const struct segment *segment, void *out, size_t len, uint64_t offset)
    __attribute__((warn_unused_result));

#endif
