/* See descriptors.h. */
#include "tests/support/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

size_t descriptors_use_up(int *descriptors, size_t count)
{
    size_t used = 0;
    while (used < count && (descriptors[used] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        used++;
    assert_true(used < count && errno == EMFILE);
    return used;
}

ssize_t socket_read(int descriptor, void *out, size_t size)
{
    size_t len = 0;
    while (len < size) {
        ssize_t got = recv(descriptor, (uint8_t *)out + len, size - len, 0);
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        len += (size_t)got;
    }
    return (ssize_t)len;
}
