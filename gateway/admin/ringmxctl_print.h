/* What ringmxctl shows to people. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_PRINT_H
#define GATEWAY_ADMIN_RINGMXCTL_PRINT_H

#include "gateway/admin/ringmxctl_options.h"

struct print;

/* print_new begins to show an answer. NULL: no memory. print_free forgets it. */
struct print *print_new(const struct options *options) __attribute__((warn_unused_result));
void print_free(struct print *print);

/* print_object shows an object of the answer, or keeps it for a table; print_end shows what is left
 * when the last one (`end`) has come. Returns the exit code. */
void print_object(struct print *print, const json_t *object);
int print_end(struct print *print, const json_t *end);

#endif
