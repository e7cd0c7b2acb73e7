/* The bodies of messages: text that is made, or a message of a corpus, in the form in which it goes
 * over the wire, and the header fields that belong to it. Made once, then only read. */
#ifndef BENCH_LOAD_BODY_H
#define BENCH_LOAD_BODY_H

#include "bench/load/corpus.h"
#include "bench/load/mail.h"

struct mail_body {
    char header[MAIL_HEADER_MAX]; /* with the sum, and room for the id */
    uint32_t header_len;
    uint32_t id_places[2], id_count; /* where the id stands in the header */
    const char *wire; /* for DATA with stuffed dots; may be a part of another body's text */
    size_t wire_len;
    const char *tail; /* what ends it on the wire */
    size_t tail_len;
    size_t stored_len; /* octets of both as they are stored */
    uint32_t sum;      /* of the body proper; zlib's CRC-32, lines end in CRLF */
    bool eight_bit;
};

/* All bodies of a run, and the text that they share. */
struct bodies {
    struct mail_body *all;
    uint32_t count;
    bool by_chance; /* else one after the other */
    char **texts;   /* owned */
    size_t text_count;
    uint64_t left_out;
};

/* bodies_make makes what the options ask for; exits through words_die. bodies_free frees it. */
void bodies_make(struct bodies *bodies, const struct mail_options *options);
void bodies_free(struct bodies *bodies);

/* body_size is the size of a message with this body, as it is stored. */
size_t body_size(const struct mail_body *body);

#endif
