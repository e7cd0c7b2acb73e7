/* Real messages, read from a folder or an mbox file into memory: all that can be sent as they are,
 * in the order of their paths. */
#ifndef BENCH_LOAD_CORPUS_H
#define BENCH_LOAD_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct corpus_message {
    uint8_t *text; /* its lines end in CRLF, the last one, too */
    size_t len;
    bool eight_bit; /* octets above 127 */
};

struct corpus {
    struct corpus_message *messages;
    size_t count, room;
    uint64_t left_out; /* NUL, bare CR, or a line above 998 octets (RFC 5321 4.5.3.1.6) */
};

/* corpus_read reads `path`: a folder is searched to any depth, through symbolic links, too, for
 * files that are named *.eml or begin like a message; a file is a message, or, if it begins with
 * "From ", an mbox (mboxrd: ">From " loses a ">"). LF becomes CRLF. Exits through words_die when
 * something can't be read, or there is no message at all. corpus_free frees what it holds. */
void corpus_read(struct corpus *corpus, const char *path);
void corpus_free(struct corpus *corpus);

#endif
