/* The segment files of a spool's directory, opened and in order of generation, as recovery begins
 * with them. */
#ifndef GATEWAY_SPOOL_LISTING_H
#define GATEWAY_SPOOL_LISTING_H

#include "gateway/base/log.h"
#include "gateway/spool/segment.h"

enum listing_kind {
    LISTING_FOREIGN = 0, /* no name of ours */
    LISTING_SEGMENT = 1,
    LISTING_POISONED = 2,
    LISTING_PREPARING = 3,
    LISTING_DAMAGED = 4,
};

/* What the name of a file in a spool says (docs/spool.md). */
struct listing_name {
    enum listing_kind kind;
    uint64_t generation;
    uint64_t trusted_end; /* LISTING_POISONED: where trust ends */
};

struct listing_name listing_name_read(const char *text);

struct listing_file {
    struct segment *segment; /* owned until taken */
    uint64_t limit;          /* what may be read of it: its size, or where trust ends */
};

struct listing {
    struct listing_file *files; /* by generation */
    size_t count, capacity;
    uint64_t generation_max; /* of any name, whatever the file is worth */
    uint64_t damaged;        /* files with a damaged header or a wrong length */
};

/* listing_read opens all segments and removes unfinished ones. `uuid_known`: the volume's uuid is
 * that of the spool; else it is taken from the segments, or stays when there are none. False, with
 * a sentence in `error`, when the directory can't be read or holds segments of another spool or a
 * newer version. Damage goes to the log. */
bool listing_read(struct listing *listing, struct volume *volume, bool uuid_known,
                  struct log_port *log, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* listing_free closes what was not taken. */
void listing_free(struct listing *listing);

#endif
