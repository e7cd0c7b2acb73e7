/* What the tests of the spool share: a directory of their own, messages whose text follows from
 * their id, a disk that fails when told to, and a reader that compares. */
#ifndef TESTS_SUPPORT_SPOOL_HELP_H
#define TESTS_SUPPORT_SPOOL_HELP_H

#include "gateway/base/bell.h"
#include "gateway/spool/spool.h"

#include <stdio.h>

/* A spool with its log, which goes to a file in memory. */
struct help {
    char path[128];
    struct spool_options options;
    struct spool *spool;
    struct staging *ring; /* the first port; help_open makes it */
    struct bell bell;     /* rung for that port, and for arrivals */
    struct log *log;
    int log_descriptor;
    char error[256];

    struct spool_message *recovered; /* from the last help_open */
    uint64_t *recovered_next;
    uint8_t *recovered_done; /* the first octet of each bitmap */
    size_t recovered_count;
};

/* help_new makes a directory and default options (1 MiB segments, small rings, fdatasync);
 * help_free stops, and removes everything. */
void help_new(struct help *help);
void help_free(struct help *help);

/* help_open opens and starts the spool; help_close stops and frees it. help_try_open returns false
 * instead of failing. */
bool help_try_open(struct help *help);
void help_open(struct help *help);
void help_close(struct help *help);

/* help_crash copies the directory as it is now and goes on with the copy, closing the spool. */
void help_crash(struct help *help);

/* help_logged counts the log lines that contain `text`; the spool must be closed. */
int help_logged(struct help *help, const char *text);

/* help_text fills `out` with the text of a message from `from` on. */
void help_text(uint64_t message_id, size_t from, uint8_t *out, size_t len);

/* help_body and help_commit lay down records; help_message both, in pieces, and returns the end.
 * They wait for room. */
void help_body(struct help *help, struct staging *ring, uint64_t id, uint32_t part, size_t from,
               size_t len);
uint64_t help_commit(struct help *help, struct staging *ring, uint64_t id, uint32_t parts,
                     size_t text_len, uint32_t recipients);
uint64_t help_message(struct help *help, struct staging *ring, uint64_t id, size_t text_len,
                      size_t piece, uint32_t recipients);
uint64_t help_done(struct help *help, struct staging *ring, uint64_t id, uint32_t recipient,
                   enum record_outcome outcome, uint64_t next_attempt_s);

/* help_wait publishes and waits until the record that ends there is settled. */
enum staging_outcome help_wait(struct help *help, struct staging *ring, uint64_t end);

/* help_arrivals waits for `count` arrivals and returns them, owned. */
struct spool_message *help_arrivals(struct help *help, size_t count);

/* help_check reads a message and compares everything. 0, or what spool_read said. */
int help_check(struct help *help, const struct spool_message *message);

/* help_recovered returns what the last help_open recovered under an id; NULL: nothing. */
const struct spool_message *help_recovered(const struct help *help, uint64_t id);

/* help_files counts the files whose names contain `part`; help_file opens the first of them (by
 * name). */
int help_files(const struct help *help, const char *part);
int help_file(const struct help *help, const char *part, char *name, size_t name_size);

/* A disk that fails: options.io = &help_io. The next `writes` writes of segments after `good` good
 * ones fail with `error`; likewise syncs and allocations. short_writes: each write does one block
 * only. */
struct help_disk {
    _Atomic int good_writes, bad_writes, good_syncs, bad_syncs, bad_allocations, error;
    _Atomic bool short_writes;
    _Atomic uint64_t writes, syncs;
};
extern struct help_disk help_disk;
extern const struct segment_io help_io;

#endif
