/* The set: see verify_seen.h. A node takes 24 octets, and at most three of four are in use. */
#include "bench/load/verify_seen.h"

#include "bench/words.h"

#include <stdlib.h>

struct verify_seen_node {
    uint64_t device, inode;
    uint32_t within;
    uint32_t number; /* 0: free */
};

/* node_find returns where it stands, or the free node where it would. */
static struct verify_seen_node *node_find(const struct verify_seen *seen, uint64_t device,
                                          uint64_t inode, uint32_t within)
{
    uint64_t mixed = inode * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ device ^ (uint64_t)within << 32) * UINT64_C(0xff51afd7ed558ccd);
    for (size_t at = (size_t)(mixed >> 24);; at++) {
        struct verify_seen_node *node = &seen->nodes[at & (seen->room - 1)];
        if (node->number == 0 ||
            (node->device == device && node->inode == inode && node->within == within))
            return node;
    }
}

static void grow(struct verify_seen *seen)
{
    struct verify_seen larger = {.room = seen->room > 0 ? seen->room * 2 : 1024,
                                 .count = seen->count};
    larger.nodes = calloc(larger.room, sizeof *larger.nodes);
    if (larger.nodes == NULL || larger.room > UINT32_MAX)
        words_die("no memory for %zu files", larger.room);
    for (size_t i = 0; i < seen->room; i++) {
        const struct verify_seen_node *node = &seen->nodes[i];
        if (node->number != 0)
            *node_find(&larger, node->device, node->inode, node->within) = *node;
    }
    free(seen->nodes);
    *seen = larger;
}

uint32_t verify_seen_add(struct verify_seen *seen, const struct stat *status, uint32_t within)
{
    if (seen->count >= seen->room / 4 * 3)
        grow(seen);
    struct verify_seen_node *node = node_find(seen, status->st_dev, status->st_ino, within);
    if (node->number == 0)
        *node = (struct verify_seen_node){status->st_dev, status->st_ino, within, ++seen->count};
    return node->number;
}

void verify_seen_free(struct verify_seen *seen)
{
    free(seen->nodes);
    *seen = (struct verify_seen){0};
}
