/* A line of consignments: those of higher priority (RFC 6710: above 0, 0, below 0) stand before the
 * others; among equals first come, first served. A pure data structure. What stands in it stays its
 * owner's; each function costs the same however many stand there. */
#ifndef GATEWAY_DELIVER_LINE_H
#define GATEWAY_DELIVER_LINE_H

#include <stdint.h>

struct consignment;

enum {
    LINE_RANKS = 3,
    LINE_PASSED_MAX = 8, /* others may go before a lower rank so often */
};

/* The zero value is empty. */
struct line {
    struct consignment *first;
    struct consignment *last[LINE_RANKS]; /* of each rank; NULL: it has none */
    uint32_t count;
    uint8_t passed[LINE_RANKS]; /* how often others went before this rank since its last turn */
};

/* line_append puts a TAKEN one behind its equals (LINED), line_push before them. */
void line_append(struct line *line, struct consignment *taken);
void line_push(struct line *line, struct consignment *taken);

/* line_next returns the one whose turn it is, or NULL: the first; but when others have gone before
 * a lower rank LINE_PASSED_MAX times, the first of that one. line_take takes it out, TAKEN. */
struct consignment *line_next(const struct line *line);
struct consignment *line_take(struct line *line);

/* line_remove takes one out, wherever it stands: TAKEN. */
void line_remove(struct line *line, struct consignment *lined);

/* For the queue, which has lines of what is READY. line_join is line_append with another state,
 * line_part takes one out and leaves its state; line_count_turn notes that it is the turn of one,
 * before it is taken out. */
void line_join(struct line *line, struct consignment *consignment, uint8_t state);
void line_part(struct line *line, struct consignment *consignment);
void line_count_turn(struct line *line, const struct consignment *taken);

#endif
