/* Assertions that stay on in every build. A failed CHECK is a bug of ours, never something that a
 * peer, a file or a full disk can cause: those are results, handled by the caller. */
#ifndef GATEWAY_BASE_CHECK_H
#define GATEWAY_BASE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            check_failed(#condition, __FILE__, __LINE__);                                          \
    } while (0)

__attribute__((noreturn, cold)) static inline void check_failed(const char *condition,
                                                                const char *file, int line)
{
    fprintf(stderr, "ringmx: bug: %s:%d: %s\n", file, line, condition);
    abort();
}

#endif
