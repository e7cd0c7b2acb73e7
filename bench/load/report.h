/* What the load program prints at its end, for people or as JSON (docs/load.md). */
#ifndef BENCH_LOAD_REPORT_H
#define BENCH_LOAD_REPORT_H

#include "bench/load/series.h"
#include "bench/load/tally.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* How numbers are written: all digits that mean something. */
enum { REPORT_JSON_FLAGS = JSON_INDENT(1) | JSON_REAL_PRECISION(12) };

/* report_print prints a table to stdout; what has no values is left out. report_json returns the
 * same as an object that the caller owns; never NULL (exits without memory). */
void report_print(const struct tally *tally, struct series *series,
                  const struct load_options *options, const struct mail *mail);
json_t *report_json(const struct tally *tally, struct series *series,
                    const struct load_options *options, const struct mail *mail);

/* report_put gives `value` to `object` as its member `name`, or exits without memory. */
void report_put(json_t *object, const char *name, json_t *value);

/* report_histograms writes every step to `file`, that of --histogram, and closes it. False, with a
 * message that names `path`: it could not. */
bool report_histograms(const struct tally *tally, FILE *file, const char *path)
    __attribute__((warn_unused_result));

#endif
