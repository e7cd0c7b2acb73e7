/* What the load program sends: SMTP commands and messages, composed once before the first
 * connection opens, and only read afterwards, by all threads. A message is a header section of its
 * own (it carries the id and the sum) and one of a number of bodies that all share; so sending 10
 * MB costs no copy. */
#ifndef BENCH_LOAD_MAIL_H
#define BENCH_LOAD_MAIL_H

#include "bench/words.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    MAIL_HEADER_MAX = 640,
    MAIL_ID_LEN = 19, /* run, hyphen, number */
    MAIL_ACKED_MAX = MAIL_ID_LEN + 24,
    MAIL_PIECES_MAX = 4,
};

enum mail_sizes { MAIL_SIZES_FIXED = 0, MAIL_SIZES_LOGNORMAL = 1, MAIL_SIZES_CORPUS = 2 };

struct mail_options {
    enum mail_sizes sizes;
    size_t size;        /* octets of a message as it is stored, without stuffed dots; the median */
    double sigma;       /* of the logarithm */
    size_t size_max;    /* of the lognormal sizes */
    const char *corpus; /* folder or mbox file */
    struct words_range recipients;
    const char *domain, *user; /* of recipients */
    const char *from;          /* an address, of the sender */
    bool bdat;
    size_t chunk; /* octets of a BDAT chunk; 0: the whole message */
    uint32_t run; /* tells the ids of this run from those of another */
    uint64_t seed;
};

struct mail; /* everything composed; read by all threads */
struct mail_body;

/* One message, as a connection sends it. mail_draft fills it; the caller owns it. */
struct mail_draft {
    uint64_t number;
    const struct mail_body *body;
    uint32_t recipients;
    uint32_t header_len;
    size_t size;     /* octets as stored */
    uint32_t sum;    /* X-Load-Sum */
    uint32_t chunks; /* with BDAT; 1 with DATA */
    char header[MAIL_HEADER_MAX];
    char chunk_line[32]; /* the BDAT command under way */
};

/* mail_new composes everything; exits through words_die when the corpus can't be used. Borrows the
 * strings of the options. mail_free takes NULL, too. */
struct mail *mail_new(const struct mail_options *options);
void mail_free(struct mail *mail);

/* mail_rename lets the ids begin with `run` from now on; not while a thread drafts. */
void mail_rename(struct mail *mail, uint32_t run);

/* mail_size_mean is the mean size of a message; mail_left_out how many of the corpus could not be
 * sent as they are. */
double mail_size_mean(const struct mail *mail);
uint64_t mail_left_out(const struct mail *mail);

/* mail_draft makes message `number` (unique in the run); `chance` is a random number that chooses
 * among sizes and numbers of recipients. */
void mail_draft(const struct mail *mail, uint64_t number, uint64_t chance,
                struct mail_draft *draft);

/* The commands of a message are numbered: 0 is MAIL, 1 to recipients are RCPT, then, unless BDAT is
 * used, DATA. mail_command_count tells how many there are. mail_commands gives the pieces of
 * `count` of them from `first` on, borrowed from `mail`; returns how many pieces (at most
 * MAIL_PIECES_MAX). */
uint32_t mail_command_count(const struct mail *mail, const struct mail_draft *draft);
uint32_t mail_commands(const struct mail *mail, const struct mail_draft *draft, uint32_t first,
                       uint32_t count, struct iovec *pieces);

/* mail_content gives the pieces of chunk `chunk` (0 to chunks - 1): with DATA the whole message,
 * dots stuffed, final dot; with BDAT the command line and the chunk. They live in `mail` and
 * `draft`. Returns how many pieces. */
uint32_t mail_content(const struct mail *mail, struct mail_draft *draft, uint32_t chunk,
                      struct iovec *pieces);

/* mail_acked writes the line of --acked, "ID SUM RECIPIENTS\n"; returns its length, at most
 * MAIL_ACKED_MAX. */
size_t mail_acked(const struct mail *mail, const struct mail_draft *draft, uint32_t recipients,
                  char line[MAIL_ACKED_MAX]);

#endif
