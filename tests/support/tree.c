/* The folder: see tree.h. */
#include "tests/support/tree.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char folder[64];

int tree_begin(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ringmx-folder-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int entry_remove(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

int tree_end(void **state)
{
    (void)state;
    return nftw(folder, entry_remove, 8, FTW_DEPTH | FTW_PHYS);
}

const char *tree_path(const char *name)
{
    static char paths[8][192];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s%s%s", folder, *name != '\0' ? "/" : "", name);
    return path;
}

void tree_put_octets(const char *name, const void *data, size_t len)
{
    FILE *file = fopen(tree_path(name), "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

void tree_put(const char *name, const char *text)
{
    tree_put_octets(name, text, strlen(text));
}

void tree_make(const char *name)
{
    assert_int_equal(mkdir(tree_path(name), 0700), 0);
}

void tree_make_maildir(const char *name)
{
    static const char *const parts[] = {"new", "cur", "tmp"};
    tree_make(name);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char part[128];
        snprintf(part, sizeof part, "%s/%s", name, parts[i]);
        tree_make(part);
    }
}
