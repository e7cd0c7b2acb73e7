/* Writing into Maildirs, a batch of files at a time, so that the waiting for the disk is shared. A
 * file is written to tmp/, synced, renamed into new/, and new/ is synced; only then it counts as
 * delivered. A file that fails takes no other with it. One thread; blocking. docs/delivery.md has
 * the order of syncs and what a crash leaves behind. */
#ifndef GATEWAY_DELIVER_MAILDIR_H
#define GATEWAY_DELIVER_MAILDIR_H

#include "gateway/deliver/folder.h"

enum { MAILDIR_FILES = 64 /* in one batch; three descriptors each at most */ };

struct maildir;

/* What became of a file. `step` (constant) says what was tried: "open new", "write"... */
struct maildir_result {
    int error; /* 0: delivered and durable; else -errno */
    const char *step;
};

/* maildir_new makes a writer with an empty batch. `hostname` is copied into the file names, made
 * safe as the Maildir convention asks. NULL: no memory. */
struct maildir *maildir_new(const char *hostname);
void maildir_free(struct maildir *maildir);

/* maildir_room returns how many files can still be added to the batch. */
uint32_t maildir_room(const struct maildir *maildir);

/* maildir_octets returns how much text the batch has taken. */
uint64_t maildir_octets(const struct maildir *maildir);

/* maildir_add adds a file for a message to the batch and returns its index, 0 for the first; there
 * must be room. Missing directories are made (0700). A failure shows in the file's result. */
uint32_t maildir_add(struct maildir *maildir, const struct folder *folder, uint64_t message_id);

/* maildir_write appends the `count` (1 or 2) texts to every file from index `first` on that has not
 * failed. True when at least one is left. */
bool maildir_write(struct maildir *maildir, uint32_t first, const struct bytes *texts, int count);

/* maildir_fail gives up a file (unless it has failed already); `error` is -errno. */
void maildir_fail(struct maildir *maildir, uint32_t index, int error, const char *step);

/* maildir_commit makes what was added durable. Results can be read until the next maildir_add,
 * which starts the next batch. */
void maildir_commit(struct maildir *maildir);
struct maildir_result maildir_result(const struct maildir *maildir, uint32_t index);

#endif
