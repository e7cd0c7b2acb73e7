/* Tests that run twice: with all that this kernel can do, and as on Linux 6.1. *state is NULL the
 * first time, not NULL the second. */
#ifndef TESTS_SUPPORT_TWICE_H
#define TESTS_SUPPORT_TWICE_H

#include <stddef.h>
#include <stdint.h>

#define TWICE(test)                                                                                \
    {#test, test, NULL, NULL, NULL},                                                               \
    {                                                                                              \
#test "/6.1", test, NULL, NULL, (void *)(uintptr_t)1                                       \
    }

/* For cmocka_run_group_tests: without a set-up of the group cmocka gives tests no state. */
static inline int twice_set_up(void **state)
{
    (void)state;
    return 0;
}

#endif
