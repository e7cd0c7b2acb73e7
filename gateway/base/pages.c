/* Large anonymous memory: see pages.h. */
#include "gateway/base/pages.h"

#include <stdint.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 * 1024 * 1024 };

static size_t rounded(size_t size)
{
    return (size + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
}

void *pages_map(size_t size)
{
    size_t wanted = rounded(size);
    uint8_t *memory = mmap(NULL, wanted + HUGE_PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)memory & (HUGE_PAGE - 1);
    if (before > 0)
        munmap(memory, before);
    if (before < HUGE_PAGE)
        munmap(memory + before + wanted, HUGE_PAGE - before);
    (void)madvise(memory + before, wanted, MADV_HUGEPAGE); /* without them it is only slower */
    return memory + before;
}

void pages_unmap(void *memory, size_t size)
{
    if (memory != NULL)
        munmap(memory, rounded(size));
}
