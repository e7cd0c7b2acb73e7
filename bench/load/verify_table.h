/* What was acknowledged, by id, and how often each was found: the account behind verify. */
#ifndef BENCH_LOAD_VERIFY_TABLE_H
#define BENCH_LOAD_VERIFY_TABLE_H

#include "bench/load/verify.h"
#include "bench/load/verify_seen.h"

/* A line of --acked. */
struct verify_entry {
    const char *id; /* borrowed from the file, which stays mapped */
    uint32_t id_len;
    uint32_t sum;
    uint32_t recipients;
    uint32_t found_all, found_one; /* copies for all recipients, and for one */
};

/* How many of a kind there were, and the first of them. */
struct verify_list {
    uint64_t count;
    struct verify_listed {
        char id[VERIFY_ID_MAX + 1];
        char place[256]; /* "": none */
    } first[VERIFY_LISTED_MAX];
};

enum verify_finding {
    VERIFY_LOST = 0,
    VERIFY_TORN,
    VERIFY_DOUBLED,
    VERIFY_STRANGE,
    VERIFY_OTHER,
    VERIFY_FINDING_COUNT,
};
extern const char *const verify_finding_names[VERIFY_FINDING_COUNT];

/* Zeroed memory is an empty account. */
struct verify {
    struct verify_entry *entries;
    size_t count, room;
    uint32_t *slots; /* open addressing: index + 1 in entries, 0: free; a power of two of them */
    size_t slot_count;
    uint64_t messages; /* found, of all kinds */
    uint64_t *pairs;   /* index in entries << 32 | Maildir, of what has several recipients */
    size_t pair_count, pair_room;
    struct verify_seen maildirs, files;
    struct verify_list lists[VERIFY_FINDING_COUNT];
};

/* verify_table_read adds the lines of a file of --acked, several files one after the other; a last
 * line without end, which its writer did not live to finish, is left out. verify_table_index must
 * follow before anything is looked up. Both exit through words_die when the files are not what
 * they should be. */
void verify_table_read(struct verify *verify, const char *path);
void verify_table_index(struct verify *verify);

/* verify_table_judge finds what is lost and what is doubled, in order of the file, when all places
 * were read. `copies`: how often each message should be there in all; 0: once for all recipients,
 * or in a Maildir for each. Recipients of which some must share a Maildir, as there are fewer
 * Maildirs than recipients, need as many copies, wherever they lie. */
void verify_table_judge(struct verify *verify, uint32_t copies);

void verify_table_free(struct verify *verify);

#endif
