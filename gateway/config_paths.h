/* The files that a configuration has named: what a sandboxed process will have to read again at a
 * reload. */
#ifndef GATEWAY_CONFIG_PATHS_H
#define GATEWAY_CONFIG_PATHS_H

#include <stdbool.h>
#include <stddef.h>

struct config_paths {
    char **all; /* owned, as each of them */
    size_t count;
};

/* config_paths_add keeps a copy of `path`; NULL for `paths`: nobody wants to know. False: no
 * memory. */
bool config_paths_add(struct config_paths *paths, const char *path)
    __attribute__((warn_unused_result));
void config_paths_free(struct config_paths *paths);

#endif
