/* Files and folders that were seen, by device and inode, so that one which can be reached by
 * several ways counts once. */
#ifndef BENCH_LOAD_VERIFY_SEEN_H
#define BENCH_LOAD_VERIFY_SEEN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Zeroed memory is an empty set. */
struct verify_seen {
    struct verify_seen_node *nodes; /* open addressing; a power of two of them */
    size_t room;
    uint32_t count; /* how many different ones were seen */
};

/* verify_seen_add returns the number of a file or folder, from 1, in the order in which they were
 * first seen; so it is new when `count` has risen. `within` sets apart what is seen in different
 * places. Exits through words_die when memory ends. */
uint32_t verify_seen_add(struct verify_seen *seen, const struct stat *status, uint32_t within);

void verify_seen_free(struct verify_seen *seen);

#endif
