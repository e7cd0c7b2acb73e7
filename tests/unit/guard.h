/* Memory that ends, and begins, at an unreadable page: a parser that looks one byte outside of what
 * it was given dies at once, in any build, without a sanitizer. Make one guard, then place input
 * after input in it:
 *
 *     struct guard guard = guard_make(4096);
 *     struct bytes in = guard_at_end(&guard, BYTES("MAIL FROM:<>\r\n"));    reading in.data[in.len]
 * crashes struct bytes in = guard_at_start(&guard, BYTES("MAIL FROM:<>\r\n"));  reading in.data[-1]
 * crashes guard_free(&guard); */
#ifndef TESTS_UNIT_GUARD_H
#define TESTS_UNIT_GUARD_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "parser/bytes.h"

struct guard {
    uint8_t *room; /* readable and writable; a page before it and a page after it are not */
    size_t room_len;
    size_t page_len;
};

/* guard_make returns a guard with room for inputs of up to `len_max` bytes. Ends the test program
 * when the system refuses. guard_free gives it back; the inputs placed in it die with it. */
static inline struct guard guard_make(size_t len_max)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (len_max / page + 1) * page;
    uint8_t *map = mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + page, room, PROT_READ | PROT_WRITE) != 0) {
        perror("guard_make");
        abort();
    }
    return (struct guard){map + page, room, page};
}

static inline void guard_free(struct guard *guard)
{
    munmap(guard->room - guard->page_len, guard->room_len + 2 * guard->page_len);
    *guard = (struct guard){0};
}

/* guard_place copies `in` to `at` in the room; the two functions below choose the place. */
static inline struct bytes guard_place(struct guard *guard, size_t at, struct bytes in)
{
    if (in.len > 0)
        memcpy(guard->room + at, in.data, in.len);
    return bytes_make(guard->room + at, in.len);
}

/* guard_at_end copies `in` so that its last byte is the last readable one. The copy lives until the
 * next input is placed in the same guard. Ends the test program when `in` is longer than the room.
 */
static inline struct bytes guard_at_end(struct guard *guard, struct bytes in)
{
    if (in.len > guard->room_len)
        abort();
    return guard_place(guard, guard->room_len - in.len, in);
}

/* guard_at_start does the same with the first byte. */
static inline struct bytes guard_at_start(struct guard *guard, struct bytes in)
{
    if (in.len > guard->room_len)
        abort();
    return guard_place(guard, 0, in);
}

#endif
