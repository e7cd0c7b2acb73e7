/* See descriptors.h. */
#include "tests/support/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

size_t descriptors_use_up(int *descriptors, size_t count)
{
    size_t used = 0;
    while (used < count && (descriptors[used] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        used++;
    assert_true(used < count && errno == EMFILE);
    return used;
}
