/* The files that a configuration has named: see config_paths.h. */
#include "gateway/config_paths.h"

#include <stdlib.h>
#include <string.h>

bool config_paths_add(struct config_paths *paths, const char *path)
{
    if (paths == NULL)
        return true;
    char **all = realloc(paths->all, (paths->count + 1) * sizeof(*all));
    if (all == NULL)
        return false;
    paths->all = all;
    all[paths->count] = strdup(path);
    if (all[paths->count] == NULL)
        return false;
    paths->count++;
    return true;
}

void config_paths_free(struct config_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free(paths->all[i]);
    free(paths->all);
    *paths = (struct config_paths){0};
}
