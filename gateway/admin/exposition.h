/* Prometheus's text format 0.0.4, written to a stream: families of samples, each with its help and
 * type. Units are the base ones (seconds, bytes), whatever we count in. */
#ifndef GATEWAY_ADMIN_EXPOSITION_H
#define GATEWAY_ADMIN_EXPOSITION_H

#include <stdbool.h>
#include <stdio.h>

#include "gateway/base/histogram.h"

enum exposition_type { EXPOSITION_COUNTER = 0, EXPOSITION_GAUGE = 1, EXPOSITION_HISTOGRAM = 2 };

struct exposition {
    FILE *out;
    const char *name; /* of the family that samples belong to */
};

/* exposition_family begins a family. `name` and `help` are constants. */
void exposition_family(struct exposition *exposition, const char *name, enum exposition_type type,
                       const char *help);

/* exposition_count adds a sample, with pairs of label and value (any text) up to a NULL.
 * exposition_seconds is for one that is counted in microseconds. */
void exposition_count(struct exposition *exposition, uint64_t value, ...) __attribute__((sentinel));
void exposition_seconds(struct exposition *exposition, uint64_t us, ...) __attribute__((sentinel));

/* exposition_single is a family with one sample without labels. */
void exposition_single(struct exposition *exposition, const char *name, enum exposition_type type,
                       const char *help, uint64_t value);

/* exposition_histogram adds all that a histogram has, with one label (NULL: none). */
void exposition_histogram(struct exposition *exposition, const struct histogram_snapshot *snapshot,
                          const char *label, const char *value);

#endif
