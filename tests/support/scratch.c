/* A folder for the tests of the configuration: see scratch.h. What goes wrong stops the test. */
#include "tests/support/scratch.h"

#include "gateway/base/check.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/ringmx-config-XXXXXX";

int scratch_begin(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

int scratch_end(void **state)
{
    (void)state;
    DIR *directory = opendir(folder);
    if (directory == NULL)
        return -1;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (entry->d_type == DT_REG)
            unlink(scratch_path(entry->d_name));
    closedir(directory);
    return rmdir(folder);
}

const char *scratch_path(const char *name)
{
    static char paths[8][320];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

void scratch_write(const char *name, const void *data, size_t len)
{
    FILE *file = fopen(scratch_path(name), "we");
    CHECK(file != NULL && fwrite(data, 1, len, file) == len);
    fclose(file);
}

void scratch_remove(const char *name)
{
    CHECK(unlink(scratch_path(name)) == 0);
}

bool scratch_has(const char *name)
{
    return access(scratch_path(name), F_OK) == 0;
}

/* Takes `wanted` out of the text wherever it stands. */
static void remove_all(char *text, const char *wanted)
{
    size_t len = strlen(wanted);
    for (char *at = text; (at = strstr(at, wanted)) != NULL;)
        memmove(at, at + len, strlen(at + len) + 1);
}

void scratch_clean(char *text)
{
    remove_all(text, folder);
    remove_all(text, "/ringmx.conf:");
}

struct config *scratch_load(const char *text, size_t len, char **said)
{
    size_t size;
    FILE *errors = open_memstream(said, &size);
    CHECK(errors != NULL);
    scratch_write("ringmx.conf", text, len);
    struct config *config = config_load(scratch_path("ringmx.conf"), errors);
    fclose(errors);
    scratch_clean(*said);
    return config;
}

struct config *scratch_good(const char *text)
{
    char *said;
    struct config *config = scratch_load(text, strlen(text), &said);
    fputs(said, stderr);
    CHECK(config != NULL && said[0] == '\0');
    free(said);
    return config;
}

void scratch_all_wrong(const struct scratch_wrong *cases, size_t count)
{
    bool right = true;
    for (size_t i = 0; i < count; i++) {
        char *said;
        struct config *config = scratch_load(cases[i].text, strlen(cases[i].text), &said);
        bool as_it_should = config == NULL && strcmp(said, cases[i].said) == 0;
        if (!as_it_should)
            fprintf(stderr, "of: %s\nsaid:\n%s\nnot:\n%s\n", cases[i].text, said, cases[i].said);
        right &= as_it_should;
        free(said);
    }
    CHECK(right);
}
