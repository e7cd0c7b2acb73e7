/* Running out of file descriptors, on purpose. */
#ifndef TESTS_SUPPORT_DESCRIPTORS_H
#define TESTS_SUPPORT_DESCRIPTORS_H

#include <stddef.h>

/* descriptors_use_up opens descriptors until there are no more, fewer than `count`, writes them to
 * `descriptors` and returns how many. The caller closes them. Fails the test otherwise. */
size_t descriptors_use_up(int *descriptors, size_t count);

#endif
