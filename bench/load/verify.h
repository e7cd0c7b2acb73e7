/* `ringmx-load verify`: compares what was acknowledged with what is stored (docs/load.md). Readers
 * of stores (verify_maildir, verify_spool, verify_sink) report each message that they find. */
#ifndef BENCH_LOAD_VERIFY_H
#define BENCH_LOAD_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct verify;

enum { VERIFY_ID_MAX = 64, VERIFY_LISTED_MAX = 10 };

/* A stored message. `place` is for people: a file, an offset. */
struct verify_found {
    const char *id; /* X-Load-Id; NULL: it has none */
    size_t id_len;
    uint32_t sum;     /* of the body as it is stored, with CRLF */
    bool whole;       /* X-Load-Sum says the same */
    uint32_t maildir; /* the Maildir where it lies, for one recipient: a number from 1 on; 0: spool
                       * or sink, where it stands for all recipients */
    const char *place;
};

/* verify_found reports a message: is it one that was acknowledged, and with this sum? Copies what
 * it keeps. */
void verify_found(struct verify *verify, const struct verify_found *found);

/* verify_read finds id and sum in the header section of a stored message (lines may end in LF or
 * CRLF; of several fields the first counts, an id above VERIFY_ID_MAX octets is none) and computes
 * the sum of the body. Sets id, id_len (borrowed from `message`), sum and whole. */
void verify_read(const uint8_t *message, size_t len, struct verify_found *found);

/* The readers. False: it is not theirs or can't be read; `error` says why. Nothing is changed. */
bool verify_maildir(struct verify *verify, const char *path, char *error, size_t size);
bool verify_spool(struct verify *verify, const char *path, char *error, size_t size);
bool verify_sink(struct verify *verify, const char *path, char *error, size_t size);

/* verify_is_spool tells whether a folder has segments of a spool. */
bool verify_is_spool(const char *path);

/* verify_main is the program behind the word `verify` (argv[0]); returns the exit code. */
int verify_main(int argc, char **argv);

#endif
