/* What the benchmark of the scanner and the parsers prints: tables as they come, or JSON. */
#ifndef BENCH_SCAN_REPORT_H
#define BENCH_SCAN_REPORT_H

#include "bench/scan_lines.h"
#include "bench/scan_measure.h"
#include "parser/scan.h"

#include <jansson.h>

/* The columns of a table of the scanner: one for each implementation that runs here, then these. */
enum {
    SCAN_COLUMN_TEXT = SCAN_KIND_COUNT, /* scan_text (BDAT) with the best implementation */
    SCAN_COLUMN_MEMCPY,
    SCAN_COLUMN_MEMCHR, /* for each LF */
    SCAN_COLUMNS,
};

struct scan_row {
    const char *mail;
    const char *set;     /* "cache" or "memory" */
    size_t octets;       /* of the set */
    size_t messages;     /* in it */
    enum scan_kind best; /* the implementation that the gateway would choose */
    size_t count;        /* of measures, in octets a second */
    struct measure measures[SCAN_COLUMNS];
};

/* scan_report_begin returns the object that the rows are added to, with what the machine is and how
 * it was measured; owned by the caller. */
json_t *scan_report_begin(const struct measure_options *options, int cpu);
void scan_report_row(json_t *report, const struct scan_row *row);
void scan_report_lines(json_t *report, const struct scan_lines *lines,
                       const struct measure *measure);

/* The tables: a head, and a line for each row. */
void scan_print_head(const struct scan_row *row, uint32_t turns);
void scan_print_row(const struct scan_row *row);
void scan_print_lines_head(void);
void scan_print_lines(const struct scan_lines *lines, const struct measure *measure);

#endif
