/* One mail transaction: from MAIL to the answer after the last octet. It keeps the envelope in an
 * arena of its own, lays message text down in the worker's staging ring as it comes, and becomes a
 * message with its COMMIT record. */
#ifndef GATEWAY_RECEIVE_TRANSACTION_H
#define GATEWAY_RECEIVE_TRANSACTION_H

#include "gateway/base/arena.h"
#include "gateway/base/list.h"
#include "gateway/policy/directory.h"
#include "gateway/receive/reply.h"
#include "gateway/receive/stamp.h"
#include "gateway/spool/spool.h"
#include "parser/command.h"
#include "parser/header.h"
#include "parser/scan.h"

struct asking;
struct collection;
struct fixups;
struct fixups_pool;
struct greylisting;
struct session;
struct signing;

/* What a transaction needs from its server. Borrowed, outlives it. */
struct transaction_context {
    struct blocks *blocks;
    struct staging *staging;
    struct blocks *chunks;       /* of COLLECTION_CHUNK octets, for text that is collected */
    struct fixups_pool *headers; /* for large header sections of submitted mail */
    uint32_t blocks_reserved;    /* that recipients must leave for everybody's replies and text */
    struct envelope_recipient
        *scratch; /* room for as many recipients as the configuration can allow */
    struct bytes hostname;
    uint64_t message_size_max;
    uint32_t recipients_max;
};

struct transaction_recipient {
    struct transaction_recipient *next;
    struct transaction_recipient *next_alike; /* in the same bucket */
    struct envelope_recipient envelope;
    uint32_t hash; /* mailbox_hash */
};

enum { TRANSACTION_BUCKETS = 256 /* a power of two */ };

struct transaction {
    struct arena arena;      /* holds the transaction itself */
    struct session *session; /* NULL: the connection is gone */
    uint64_t session_id;     /* its id, for the log */
    struct list_node
        node; /* in the server's list of those that wait for the writer, or for room to abort */
    struct envelope envelope;
    struct transaction_recipient *recipients;
    struct transaction_recipient *recipients_last;
    struct transaction_recipient **buckets; /* by hash; NULL while they are few */
    struct bytes rcpt_first;                /* the mailbox of the first RCPT, as it was written */
    uint32_t rcpt_count;                    /* RCPT commands that were accepted */
    struct scan scan;
    struct header_watch header;
    struct asking *asking;           /* NULL: no next hop was asked */
    struct greylisting *greylisting; /* a RCPT that other gateways are asked about; or NULL */
    struct fixups *fixups;           /* submitted mail (receive/fixups.h); NULL: another's */
    struct signing *signing;         /* ... that is signed (receive/signing.h) */
    struct collection *collection;   /* text that was collected and is not staged; NULL: none */
    uint8_t *pending;                /* text too short for a record of its own; a block, or NULL */
    uint32_t pending_len;
    uint32_t parts;          /* BODY records staged */
    uint32_t refused_count;  /* RCPT commands that were answered 4xx or 5xx */
    enum reply refusal;      /* why the message will be refused at its end; REPLY_NONE: it won't */
    bool binary;             /* BODY=BINARYMIME: the law of lines does not apply */
    bool chunked;            /* BDAT */
    bool committed;          /* the COMMIT is staged, at commit_position */
    bool lost;               /* ... but the disk did not take it */
    bool collecting;         /* text goes to `collection`, as long as it fits there */
    bool holding;            /* text goes to `fixups`, until that has the header section */
    uint32_t recipients_max; /* those of the context, or of submission */
    uint64_t message_size_max; /* likewise */
    uint64_t size;             /* octets of text as MAIL announced them; 0: it did not */
    uint64_t octets;           /* of text as received, stored or not */
    uint64_t begun_us;         /* monotonic: MAIL */
    uint64_t data_us;          /* monotonic: DATA, or the first BDAT */
    uint64_t ended_us;         /* monotonic: the last octet of the text; 0: not yet */
    uint64_t commit_position;
};

/* transaction_new begins a transaction with a MAIL command that command_parse has taken. Returns
 * it, owned; NULL: no block to be had. */
struct transaction *transaction_new(const struct transaction_context *context,
                                    const struct command *mail, uint64_t message_id);

/* transaction_free gives its memory back. True. False: text has been staged and there is no room
 * now for the ABORT record; try again when staging has advanced (nothing has changed). */
bool transaction_free(const struct transaction_context *context, struct transaction *transaction)
    __attribute__((warn_unused_result));

/* transaction_recipients_add takes a RCPT command whose mailbox was accepted and stands for these
 * targets: each becomes a recipient, unless it is one already, whose parameters then stay as they
 * are. All or none. `aliased`: the client does not know them, so its mailbox becomes the ORCPT, if
 * it gave none (RFC 3461 5.2.7.1, RFC 6533). transaction_recipient_add is for a mailbox that stands
 * for itself. REPLY_RECIPIENT_OK, or why not. */
enum reply transaction_recipients_add(const struct transaction_context *context,
                                      struct transaction *transaction, const struct command *rcpt,
                                      const struct directory_target *targets, uint32_t target_count,
                                      bool aliased);
enum reply transaction_recipient_add(const struct transaction_context *context,
                                     struct transaction *transaction, const struct command *rcpt);

/* transaction_has tells whether a mailbox that stands for itself is a recipient already. */
bool transaction_has(const struct transaction *transaction, struct bytes mailbox);

/* transaction_data takes message text as DATA sends it, from the front of `in`, and returns how
 * many octets it took; fewer than all when the end was found (*ended) or the staging ring has no
 * room. A text that will be refused is read to its end all the same. */
size_t transaction_data(const struct transaction_context *context, struct transaction *transaction,
                        struct bytes in, bool *ended);

/* transaction_chunk is the same for text in a BDAT chunk (RFC 3030); `last` tells that `in`, which
 * may be empty, ends the message. Sets *taken; false: the staging ring has no room, nothing was
 * taken. */
bool transaction_chunk(const struct transaction_context *context, struct transaction *transaction,
                       struct bytes in, bool last, size_t *taken)
    __attribute__((warn_unused_result));

/* transaction_stamp writes the Received field that `stamp` describes (id, hostname and recipient
 * are filled in here) to `out` of STAMP_LEN_MAX octets and returns its length. */
size_t transaction_stamp(const struct transaction_context *context,
                         const struct transaction *transaction, struct stamp *stamp, char *out);

enum transaction_commit { TRANSACTION_COMMITTED, TRANSACTION_REFUSED, TRANSACTION_NO_ROOM };

/* transaction_commit ends the message: stages what was collected, and its COMMIT with the fields
 * that we put before the text: Received, and the DKIM-Signature fields of submitted mail.
 * TRANSACTION_REFUSED: transaction->refusal says why. TRANSACTION_NO_ROOM: again when staging has
 * advanced. */
enum transaction_commit transaction_commit(const struct transaction_context *context,
                                           struct transaction *transaction, struct stamp *stamp);

#endif
