/* Lines for the parsers: SMTP commands and addresses as servers meet them, many different ones of
 * each kind, so that no branch learns them by heart. */
#ifndef BENCH_SCAN_LINES_H
#define BENCH_SCAN_LINES_H

#include "parser/bytes.h"

enum { SCAN_LINES = 2048 };

/* Which parser they are for. */
enum scan_lines_parser { SCAN_LINES_COMMAND = 0, SCAN_LINES_ADDRESS = 1 };

struct scan_lines {
    const char *name;
    enum scan_lines_parser parser;
    double good;   /* share that the parser takes */
    size_t octets; /* of all of them */
    struct bytes lines[SCAN_LINES];
    size_t next;
};

/* scan_lines_sets makes all sets, *count of them, and exits with a message when one has fewer good
 * lines than it should, or no memory. They are there to the end. */
struct scan_lines *scan_lines_sets(size_t *count);

/* scan_lines_run parses some hundred lines, going round; for struct measure. Returns how many.
 * `lines` is a struct scan_lines. */
uint64_t scan_lines_run(void *lines);

#endif
