/* What the load program sends: the SMTP commands and the messages, composed once before the first
 * connection opens. A message is a header section of its own (it carries the id and the sum) and
 * one of a few bodies that all messages share; so sending 10 MB costs no copy. */
#ifndef BENCH_LOAD_MAIL_H
#define BENCH_LOAD_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MAIL_HEADER_MAX = 512,
    MAIL_ID_LEN = 19, /* run, hyphen, number */
    MAIL_BODIES_MAX = 16,
};

struct mail_options {
    size_t size; /* of the message as it is stored: header section, body, no stuffed dots */
    uint32_t recipients;
    const char *domain, *user;
    bool bdat;
    uint32_t run; /* tells the ids of this run from those of another */
};

struct mail_body {
    char header[MAIL_HEADER_MAX]; /* with the sum, but without the id */
    const char *wire; /* for DATA with stuffed dots and the final dot, for BDAT as it is */
    size_t wire_len;
    uint32_t crc32; /* of the body as it is stored, lines end with CRLF; the polynomial of zlib */
};

/* Commands: MAIL, one RCPT for each recipient, DATA or BDAT. `starts[i]` is where the i-th begins,
 * and starts[count] the end of the last. */
struct mail {
    struct mail_options options;
    char *commands;
    size_t *starts;
    uint32_t command_count;
    struct mail_body bodies[MAIL_BODIES_MAX];
    uint32_t body_count;
    size_t header_len;   /* the same for all */
    size_t id_places[2]; /* in the header section */
};

/* Composes everything; exits if there is no memory. Borrows the strings of the options. */
void mail_start(struct mail *mail, const struct mail_options *options);

/* Writes the id of message `number`, as X-Load-Id and --acked show it; not terminated. */
void mail_id(const struct mail *mail, uint64_t number, char id[MAIL_ID_LEN]);

/* Writes the header section of message `number`, header_len octets with the empty line, and returns
 * the body that follows. */
const struct mail_body *mail_header(const struct mail *mail, uint64_t number,
                                    char header[MAIL_HEADER_MAX]);

#endif
