/* The text of a notification under construction: lines that end in CR LF, and nothing that came
 * from outside in them but what is printable. It goes out piece by piece. */
#ifndef GATEWAY_DELIVER_DRAFT_H
#define GATEWAY_DELIVER_DRAFT_H

#include "parser/bytes.h"

enum {
    DRAFT_SIZE = 4096,
    DRAFT_WORD_MAX = 900, /* octets of anything from outside on one line */
    DRAFT_COLUMNS = 76,   /* lines of words are folded here */
};

/* Zero but for `out`, `user` and `utf8` it is empty. */
struct draft {
    int (*out)(void *user, struct bytes piece);
    void *user;
    bool utf8; /* characters that are not ASCII may stay; else each octet becomes "?" */
    int error; /* the first that `out` returned; nothing is written after it */
    uint32_t len;
    uint32_t column; /* draft_quoted: where it stands in its line */
    uint8_t held;    /* draft_quoted: an octet that depends on the next one; 0: none */
    uint8_t buffer[DRAFT_SIZE];
};

/* draft_put and draft_string take octets of ours, as they are. */
void draft_put(struct draft *draft, struct bytes text);
void draft_string(struct draft *draft, const char *text);
void draft_number(struct draft *draft, uint64_t number);

/* draft_date writes a date-time of RFC 5322 in UTC; `wall_us` is microseconds since 1970. */
void draft_date(struct draft *draft, uint64_t wall_us);

/* draft_clean takes text from outside onto the present line: control octets and what is no UTF-8
 * become "?"; cut at DRAFT_WORD_MAX octets, between characters. */
void draft_clean(struct draft *draft, struct bytes text);

/* draft_words does the same word by word, on as many lines as it takes; each line after the first
 * begins with `indent` blanks (at least one: RFC 5322 2.2.3). `column`: where the first line
 * stands. Ends behind the last word. */
void draft_words(struct draft *draft, struct bytes text, uint32_t column, uint32_t indent);

/* draft_quoted takes the next part of a text in quoted-printable (RFC 2045 6.7): CR LF stays, every
 * other octet that is not plain is encoded, lines are broken softly. draft_quoted_end ends it. */
void draft_quoted(struct draft *draft, struct bytes text);
void draft_quoted_end(struct draft *draft);

/* draft_end hands out what is left. 0, or what `out` returned. */
int draft_end(struct draft *draft) __attribute__((warn_unused_result));

#endif
