/* Memory straight from the kernel, in huge pages where it has them: what every message touches
 * should not cost a page-table walk each time. Untouched memory costs nothing. */
#ifndef GATEWAY_BASE_PAGES_H
#define GATEWAY_BASE_PAGES_H

#include <stddef.h>

/* pages_map returns `size` octets of zeroes, aligned to a huge page, owned; NULL: no memory.
 * pages_unmap gives them back (the same size; NULL is allowed). */
void *pages_map(size_t size);
void pages_unmap(void *memory, size_t size);

#endif
