/* For tests of code that ends the program when something is wrong, as command lines do: it runs in
 * a child process, and what it said is caught. */
#ifndef TESTS_SUPPORT_EXITS_H
#define TESTS_SUPPORT_EXITS_H

#include <stddef.h>

/* exits_run calls `run` in a child process and returns its exit code: 0 when `run` returns, -1 when
 * a signal ended it. What it wrote to stderr, and to stdout, is in `said`, terminated, as far as it
 * fits. */
int exits_run(void (*run)(const void *data), const void *data, char *said, size_t size);

#endif
