/* Outcomes on their way to disk. What became of recipients is collected here, written to the spool
 * as DONE records (many outcomes in one), and kept until the record is durable; then the places of
 * finished messages are released. A record that could not be written is written again, for as long
 * as it takes: an outcome is never forgotten, or mail would be delivered twice after a restart. The
 * courier's own; nothing here blocks. */
#ifndef GATEWAY_DELIVER_LEDGER_H
#define GATEWAY_DELIVER_LEDGER_H

#include "gateway/base/limits.h"
#include "gateway/spool/spool.h"

enum {
    LEDGER_ITEMS = 65536, /* outcomes that wait for the disk at most: 4.5 MiB, touched as needed */
    LEDGER_DELAY_US = 50 * 1000, /* an outcome waits this long for company, unless there are */
    LEDGER_GROUP = 2048,         /* this many */
};

static_assert(LEDGER_ITEMS >= 4 * LIMIT_RECIPIENTS, "one message never fills it");

/* The next attempt of a message on hold, in a DONE record. */
#define LEDGER_HELD_S UINT64_MAX

struct ledger;

/* ledger_new makes an empty ledger that writes through `staging`, which is borrowed, as the spool
 * is. NULL: no memory. */
struct ledger *ledger_new(struct spool *spool, struct staging *staging);
void ledger_free(struct ledger *ledger);

/* ledger_room returns how many more outcomes can be noted. */
size_t ledger_room(const struct ledger *ledger);

/* ledger_note takes the outcome of a recipient; ledger_finish says that all recipients of a message
 * are finished, and that its place is to be released when that is durable. There must be room. */
void ledger_note(struct ledger *ledger, const struct record_done *done, uint64_t now_us);
void ledger_finish(struct ledger *ledger, const struct spool_message *message, uint64_t now_us);

/* ledger_hurry: what has been noted shall not wait for company. For deliveries that people would
 * notice twice. */
void ledger_hurry(struct ledger *ledger);

/* ledger_settle asks what became of the records, releases what is finished, and queues again what
 * failed. True when something happened. */
bool ledger_settle(struct ledger *ledger, uint64_t now_us);

/* ledger_write makes records of what has waited long enough (with `all`: of everything) and shows
 * them to the writer. */
void ledger_write(struct ledger *ledger, uint64_t now_us, bool all);

/* ledger_marker returns a position of the staging ring that lies behind everything that was staged
 * before now; it makes a record if need be. 0: there is no room now. */
uint64_t ledger_marker(struct ledger *ledger);

/* ledger_follow: somebody else has staged a record through the same ring, which ends at `position`,
 * behind everything that was staged through it before. ledger_settle calls `settled` in its turn,
 * when the writer is done with it; that may note and finish outcomes, but not follow. Ask
 * ledger_can_follow before staging. */
bool ledger_can_follow(const struct ledger *ledger);
void ledger_follow(struct ledger *ledger, uint64_t position,
                   void (*settled)(void *user, enum staging_outcome outcome), void *user);

/* ledger_next_us returns when ledger_write has something to do (with or without `all`); UINT64_MAX:
 * never. What waits for the writer wakes by the port. */
uint64_t ledger_next_us(const struct ledger *ledger, bool all);

/* ledger_mark says where the notes end that were taken so far; ledger_durable whether all of them
 * are durable. It moves the mark on when a record has failed since, as that is written again behind
 * the others. */
struct ledger_mark {
    uint64_t end, failed;
};
struct ledger_mark ledger_mark(const struct ledger *ledger);
bool ledger_durable(const struct ledger *ledger, struct ledger_mark *mark);

/* ledger_open returns how many outcomes are not durable: what a crash now would do again.
 * ledger_failed: how many records could not be written at their first try. */
size_t ledger_open(const struct ledger *ledger);
uint64_t ledger_failed(const struct ledger *ledger);

#endif
