/* Reading a message back: from the staging ring while it is still there, else from its segment.
 * Every checksum is verified on the way. Any thread; a reader belongs to one. */
#ifndef GATEWAY_SPOOL_READER_H
#define GATEWAY_SPOOL_READER_H

#include "gateway/spool/envelope.h"
#include "gateway/spool/message.h"
#include "gateway/spool/staging.h"

#include <stddef.h>

struct spool;

/* Blocks of a segment that may be wanted soon. The zero value is empty. Private. */
struct spool_ahead {
    uint8_t *blocks;
    size_t len;
    uint64_t generation; /* 0: none */
    uint64_t offset;
    uint64_t before_generation, before_offset; /* what was wanted last */
};

/* A message opened for reading. The zero value is closed. Opening another one with the same reader
 * reuses its memory, so that a courier in the long run never allocates. Private. */
struct spool_reader {
    struct spool *spool;
    struct spool_message message;
    uint8_t *form; /* the envelope's binary form, form_len octets of form_capacity */
    size_t form_len, form_capacity;
    uint8_t *window; /* blocks of a segment, or one record out of a ring */
    size_t window_len, window_capacity;
    uint64_t window_generation; /* 0: not blocks of a segment */
    uint64_t window_offset;
    bool window_old; /* it was read ahead, some time ago */
    struct spool_ahead *ahead;
    struct spool_place *places; /* of the BODY records, last first */
    size_t place_count, place_capacity;
    uint64_t last_generation; /* where the last BODY record lies */
    uint32_t last_offset;
    uint32_t parts;
    size_t places_left; /* of the walk through the text */
    uint64_t given;     /* octets of it so far */
    bool walking;       /* `places` are known */
    bool quiet;
};

/* spool_read opens a message: fetches its COMMIT and sets *envelope (borrowing from the reader
 * until the next spool_read or spool_read_close). 0, or -errno (EBADMSG: damaged, logged; EIO;
 * ENOMEM). */
int spool_read(struct spool *spool, const struct spool_message *message,
               struct spool_reader *reader, struct envelope *envelope)
    __attribute__((warn_unused_result));

/* spool_read_form returns the envelope's binary form, for envelope_recipient_next; borrowed
 * likewise. */
struct bytes spool_read_form(const struct spool_reader *reader);

/* spool_read_text calls `sink` with the message text piece by piece, in order; stops when it
 * returns non-zero and returns that. 0 when all `text_len` octets were given; -EBADMSG when
 * something is damaged or missing: then what was given must be thrown away. Legal again and again.
 */
int spool_read_text(struct spool_reader *reader, int (*sink)(void *user, struct bytes text),
                    void *user) __attribute__((warn_unused_result));

/* spool_read_next gives the next piece of the text, borrowed until the next call with this reader;
 * an empty piece: all `text_len` octets were given. spool_read_rewind starts again, as spool_read
 * does. 0, or -errno as spool_read_text. */
int spool_read_next(struct spool_reader *reader, struct bytes *piece)
    __attribute__((warn_unused_result));
void spool_read_rewind(struct spool_reader *reader);

/* spool_read_quietly: the reader may be given messages that somebody else releases meanwhile
 * (ringmxctl). Failures are not logged then, and segments are kept while it reads from them. */
void spool_read_quietly(struct spool_reader *reader, bool quiet);

/* spool_read_ahead: messages are read in about the order in which they came, by this reader or by
 * several of one thread that share `ahead` (borrowed; NULL, as at first and after spool_read_close:
 * none). Then many of them come with one read from the disk. For all of one spool.
 * spool_ahead_free frees what it holds; legal on the zero value. */
void spool_read_ahead(struct spool_reader *reader, struct spool_ahead *ahead);
void spool_ahead_free(struct spool_ahead *ahead);

/* spool_read_slim frees the envelope's form and the window: for who has copied what it needs of a
 * large envelope, and keeps the message open for its text. spool_read_octets returns what the
 * reader holds of memory, about. */
void spool_read_slim(struct spool_reader *reader);
size_t spool_read_octets(const struct spool_reader *reader);

/* spool_read_close frees what the reader holds. Legal on the zero value, and twice. */
void spool_read_close(struct spool_reader *reader);

#endif
