/* Large anonymous memory: see pages.h. */
#include "gateway/base/pages.h"

#include <stdint.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 * 1024 * 1024 };

/* What is smaller than a huge page gets ordinary ones. */
static size_t rounded(size_t size)
{
    return size < HUGE_PAGE ? size : (size + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
}

void *pages_map(size_t size)
{
    size_t wanted = rounded(size);
    size_t spare = size < HUGE_PAGE ? 0 : HUGE_PAGE; /* to find the boundary in */
    uint8_t *memory = mmap(NULL, wanted + spare, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (size < HUGE_PAGE)
        return memory;
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
