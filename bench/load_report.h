/* What the load program prints at its end, for people or as JSON. */
#ifndef BENCH_LOAD_REPORT_H
#define BENCH_LOAD_REPORT_H

#include "bench/load_client.h"

#include <stdbool.h>
#include <stddef.h>

/* Prints to stdout. `size` is the octets of each message. What is about TLS is only there when the
 * options want TLS. */
void report_print(const struct client_report *report, const struct client_options *options,
                  size_t size, bool json);

/* Says whether anything went wrong that the options do not excuse. */
bool report_failed(const struct client_report *report, const struct client_options *options);

#endif
