/* The lines of --acked, collected and written together: whole lines in each write, because threads
 * append to one file. */
#ifndef BENCH_LOAD_ACKED_H
#define BENCH_LOAD_ACKED_H

#include "bench/load/mail.h"

enum { ACKED_SIZE = 64 << 10 };

/* Zeroed memory with its descriptor set (-1: nothing is wanted) is ready for use. */
struct acked {
    int descriptor; /* opened with O_APPEND */
    int error;      /* -errno of the first write that failed; nothing is written after it */
    size_t len;
    char lines[ACKED_SIZE];
};

/* acked_add notes a message, and writes when there is no more room. acked_flush writes what waits:
 * before anything is sent that says that the message is known as acknowledged. */
void acked_add(struct acked *acked, const struct mail *mail, const struct mail_draft *draft,
               uint32_t recipients);
void acked_flush(struct acked *acked);

#endif
