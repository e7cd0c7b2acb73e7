/* Mail to be scanned: messages as DATA sends them (dots stuffed, each with its final dot), one
 * after the other in one piece of memory. */
#ifndef BENCH_SCAN_MAIL_H
#define BENCH_SCAN_MAIL_H

#include "parser/bytes.h"

struct scan_mail {
    uint8_t *data;
    size_t len, room;
    size_t *ends; /* where each message ends */
    size_t count, count_room;
};

/* The kinds of mail that are made here, from a random number generator that always begins alike. */
enum scan_mail_kind {
    SCAN_MAIL_MIX = 0,    /* of 20 messages 11 are text, 6 HTML, 3 have an attachment */
    SCAN_MAIL_TEXT,       /* plain text of 1 to 6 KiB, lines of 0 to 78 columns */
    SCAN_MAIL_HTML,       /* HTML of 8 to 40 KiB, lines of 1 to 990 columns, some of it UTF-8 */
    SCAN_MAIL_ATTACHMENT, /* 40 to 160 KiB of base64 in lines of 76 columns */
    SCAN_MAIL_EMPTY,      /* nothing but empty lines */
    SCAN_MAIL_DOTS,       /* nothing but lines of one stuffed dot: the worst there is */
    SCAN_MAIL_KINDS,
};

/* scan_mail_kind_name is for tables and JSON; constant. */
const char *scan_mail_kind_name(enum scan_mail_kind kind);

/* Both exit with a message when there is no memory. What they return is the caller's to free with
 * scan_mail_free. scan_mail_make makes at least `len` octets of mail. scan_mail_cut takes messages
 * of `from`, again and again, as long as they fit in `len` octets, but at least one; its memory
 * consists of large pages if the system has any. */
struct scan_mail scan_mail_make(enum scan_mail_kind kind, size_t len);
struct scan_mail scan_mail_cut(const struct scan_mail *from, size_t len);
void scan_mail_free(struct scan_mail *mail);

/* scan_mail_pages returns `len` octets in large pages, if the system has any, all of them there and
 * not zero; the caller's to free(3). Exits with a message when there is no memory. */
uint8_t *scan_mail_pages(size_t len);

/* scan_mail_add appends one message, given as text whose lines end in CR LF: dots are stuffed. */
void scan_mail_add(struct scan_mail *mail, struct bytes message);

#endif
