/* Tables for people: columns that are as wide as what stands in them, ages and sizes in few
 * characters, and no text that could do something to a terminal. */
#ifndef GATEWAY_ADMIN_SHEET_H
#define GATEWAY_ADMIN_SHEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SHEET_COLUMNS_MAX = 12, SHEET_FIGURE_SIZE = 24 };

struct sheet;

/* A column: its head, and whether its cells end at the same place (numbers). */
struct sheet_column {
    const char *head;
    bool right;
};

/* sheet_new makes an empty table; `columns` (a constant) is borrowed. NULL: no memory. */
struct sheet *sheet_new(const struct sheet_column *columns, size_t count)
    __attribute__((warn_unused_result));
void sheet_free(struct sheet *sheet);

/* sheet_add adds a row with a cell for each column; copied and cleaned. False: no memory. */
bool sheet_add(struct sheet *sheet, const char *const *cells) __attribute__((warn_unused_result));

/* sheet_print writes the head and all rows. A text that is no number in the last column is as long
 * as it is. */
void sheet_print(const struct sheet *sheet, FILE *out);

/* sheet_age writes a time in its largest unit ("45s", "12m", "3h", "9d"), sheet_size octets ("312",
 * "4.2k", "17M"), to `out` of SHEET_FIGURE_SIZE, and return it. */
char *sheet_age(uint64_t time_s, char *out);
char *sheet_size(uint64_t octets, char *out);

/* sheet_clean replaces in place what a terminal would obey: control characters of ASCII and of
 * Unicode (C1), and whatever is no UTF-8, become "?". Returns `text`. */
char *sheet_clean(char *text);

/* sheet_width returns how many columns a cleaned text takes, a character each. */
size_t sheet_width(const char *text);

#endif
