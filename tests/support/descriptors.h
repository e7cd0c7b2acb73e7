/* File descriptors in tests: reading from a socket, and running out of them on purpose. */
#ifndef TESTS_SUPPORT_DESCRIPTORS_H
#define TESTS_SUPPORT_DESCRIPTORS_H

#include <stddef.h>
#include <sys/types.h>

/* descriptors_use_up opens descriptors until there are no more, fewer than `count`, writes them to
 * `descriptors` and returns how many. The caller closes them. Fails the test otherwise. */
size_t descriptors_use_up(int *descriptors, size_t count);

/* socket_read reads up to `size` octets or to the end and returns how many, or -errno. */
ssize_t socket_read(int descriptor, void *out, size_t size);

#endif
