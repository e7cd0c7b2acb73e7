/* The header section of a message -> fields (RFC 5322 2.2, RFC 6532), zero-copy; and a counter that
 * watches a message go by in pieces and knows, without keeping anything, where the header section
 * ends and how many Received fields it has (RFC 5321 6.3). */
#ifndef PARSER_HEADER_H
#define PARSER_HEADER_H

#include "parser/bytes.h"

struct header_field {
    struct bytes name;  /* without colon and without white space before it */
    struct bytes value; /* raw: all after the colon, folding included, the final CR LF not */
    struct bytes whole; /* the field with its final CR LF */
};

enum header_result {
    HEADER_FIELD = 0, /* *field is set */
    HEADER_END = 1,   /* the empty line, or the end of input: the body begins behind *used */
    HEADER_BAD = 2, /* a line that is no field: here the section has ended, unlawfully (RFC 5322) */
};

/* header_next takes one field, or the empty line, from the front of `in` (complete header section,
 * canonical CR LF lines) and sets *used to the octets taken (0 for HEADER_BAD). A field at the end
 * of input needs no CR LF; a bare CR or LF ends nothing. *field is zero unless HEADER_FIELD. */
enum header_result header_next(struct bytes in, struct header_field *field, size_t *used)
    __attribute__((warn_unused_result));

/* header_is compares a field's name without regard to case. */
static inline bool header_is(const struct header_field *field, struct bytes name)
{
    return bytes_equal_nocase(field->name, name);
}

/* Watches message text in pieces. The zero value is at the beginning of a message. Its members are
 * private but for `ended`, `received_count` and `len`. */
struct header_watch {
    bool ended;              /* the empty line has passed (or a line that is no field) */
    uint8_t matched;         /* octets of "received" matched by the present name; 255: no match */
    uint8_t line_state;      /* where in a line the next octet stands */
    uint32_t received_count; /* "Received:" fields so far, any case */
    uint64_t len;            /* octets of the header section so far, the empty line included */
    uint32_t line_len; /* octets of the present line while it may still prove to be no field */
};

/* header_watch_text takes the next piece of message text (after dot-unstuffing). Cheap: one memchr
 * a line and a look at each octet of a name, and nothing at all once `ended`. A line that proves to
 * be no field is not counted in `len`, wherever the text was cut. */
void header_watch_text(struct header_watch *watch, struct bytes text);

#endif
