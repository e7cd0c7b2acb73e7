/* What the tests of ringmx-load verify have in common: stored messages, and the account. */
#ifndef TESTS_UNIT_LOAD_VERIFY_H
#define TESTS_UNIT_LOAD_VERIFY_H

#include "bench/load/verify_table.h"
#include "gateway/spool/crc.h"
#include "tests/support/tree.h"

#include <stdio.h>
#include <string.h>

/* message_of writes a message as it is stored, in one of four buffers. */
static inline const char *message_of(const char *id, const char *body)
{
    static char texts[4][2048];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    snprintf(text, sizeof texts[0],
             "Received: from here\r\n\tby there\r\nX-Load-Sum: %08x\r\nX-Load-Id: %s\r\n\r\n%s",
             crc32(0, body, strlen(body)), id, body);
    return text;
}

/* What the findings should be: lost, torn, doubled, strange, other. */
#define FINDINGS(verify, ...)                                                                      \
    do {                                                                                           \
        static const uint64_t expected[] = {__VA_ARGS__};                                          \
        for (unsigned finding = 0; finding < VERIFY_FINDING_COUNT; finding++)                      \
            if ((verify)->lists[finding].count != expected[finding])                               \
                fail_msg("%s: %llu", verify_finding_names[finding],                                \
                         (unsigned long long)(verify)->lists[finding].count);                      \
    } while (0)

/* acked_abc reads a file in which a, b and c are acknowledged; c for two recipients. */
static inline void acked_abc(struct verify *verify)
{
    char text[256];
    snprintf(text, sizeof text, "a %08x 1\nb %08x 1\nc %08x 2\n", crc32(0, "hello\r\n", 7),
             crc32(0, "", 0), crc32(0, "hello\r\n", 7));
    tree_put("acked", text);
    *verify = (struct verify){0};
    verify_table_read(verify, tree_path("acked"));
    verify_table_index(verify);
}

#endif
