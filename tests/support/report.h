/* Reads a notification (deliver/bounce) back and checks with CHECK what must hold for every one of
 * them, whatever went in: lines, encodings, boundaries, the fields and their order. For tests and
 * the fuzzer. */
#ifndef TESTS_SUPPORT_REPORT_H
#define TESTS_SUPPORT_REPORT_H

#include "gateway/deliver/bounce.h"

enum { REPORT_PARTS_MAX = 3 };

struct report_part {
    struct bytes header;  /* of the part, with the CR LF of its last field */
    struct bytes content; /* without the CR LF that belongs to the boundary behind it */
};

struct report {
    struct bytes text; /* all of it */
    struct bytes header;
    struct report_part parts[REPORT_PARTS_MAX];
    uint32_t part_count;
    uint32_t recipient_count; /* groups of fields in the second part but the first one */
};

/* report_read checks and sets *report, which borrows from `text`. */
void report_read(struct report *report, struct bytes text);

/* report_field returns the value of the first field of that name, without blanks around it; an
 * empty one when there is none. */
struct bytes report_field(struct bytes header, const char *name);

/* report_group returns the fields of recipient number `index` (from 0) in the second part. */
struct bytes report_group(const struct report *report, uint32_t index);

/* report_contains looks for a text. */
bool report_contains(struct bytes text, const char *wanted);

/* report_unquote undoes quoted-printable; `out` must have as many octets as `in`. */
size_t report_unquote(struct bytes in, uint8_t *out);

/* A text in memory that is given in pieces of `piece` octets, as struct delivery_text wants it. */
struct report_source {
    struct bytes text;
    size_t piece, at;
    size_t fail_at; /* an error (-EBADMSG) instead of the octet there; SIZE_MAX: never */
    uint32_t passes;
};
struct delivery_text report_text(struct report_source *source);

/* report_write composes into memory; *out is owned (free). Returns what bounce_write does. */
int report_write(const struct bounce *bounce, const struct delivery_text *text, struct bytes *out);

#endif
