/* The log of ringmx-sink (docs/man/ringmx-sink.1): a line for each message, `key=value` with spaces
 * between; what we look for stands in front of the first quoted value. */
#include "bench/load/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* value_find finds the value of ` key=` in a line, up to the next space. NULL: it has none. */
static const char *value_find(const char *line, size_t len, const char *key, size_t *value_len)
{
    const char *end = line + len;
    const char *found = memmem(line, len, key, strlen(key));
    if (found == NULL)
        return NULL;
    found += strlen(key);
    const char *space = memchr(found, ' ', (size_t)(end - found));
    *value_len = (size_t)((space != NULL ? space : end) - found);
    return found;
}

/* line_read reports a message. False: the line is none of a sink. */
static bool line_read(struct verify *verify, const char *line, size_t len, const char *place)
{
    static const char quoted[] = " from=\"";
    const char *behind = memmem(line, len, quoted, sizeof quoted - 1);
    if (len < 5 || memcmp(line, "time=", 5) != 0 || behind == NULL)
        return false;
    len = (size_t)(behind - line);
    size_t id_len = 0, load_len = 0, sum_len = 0;
    const char *id = value_find(line, len, " load_id=", &id_len);
    const char *load_sum = value_find(line, len, " load_sum=", &load_len);
    const char *sum = value_find(line, len, " sum=", &sum_len);
    if (memmem(line, len, " event=message", 14) == NULL || sum == NULL || sum_len != 8)
        return false;
    char *end;
    struct verify_found found = {.place = place};
    found.sum = (uint32_t)strtoul(sum, &end, 16);
    if (end != sum + sum_len)
        return false;
    found.id = id_len > 0 && id_len <= VERIFY_ID_MAX ? id : NULL;
    found.id_len = id_len;
    found.whole = load_sum != NULL && load_len == sum_len && memcmp(load_sum, sum, sum_len) == 0;
    verify_found(verify, &found);
    return true;
}

static bool lines_read(struct verify *verify, const char *path, const char *text, size_t len,
                       char *error, size_t size)
{
    size_t number = 1;
    for (const char *end = text + len; text < end; number++) {
        char place[512];
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        if (newline == NULL)
            break; /* the sink did not live to finish it, so it did not answer */
        snprintf(place, sizeof place, "%s:%zu", path, number);
        if (!line_read(verify, text, (size_t)(newline - text), place)) {
            snprintf(error, size, "%s: line %zu is not of the log of ringmx-sink", path, number);
            return false;
        }
        text = newline + 1;
    }
    return true;
}

bool verify_sink(struct verify *verify, const char *path, char *error, size_t size)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) < 0) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        if (descriptor >= 0)
            close(descriptor);
        return false;
    }
    size_t len = (size_t)status.st_size;
    void *text = len > 0 ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, descriptor, 0) : NULL;
    close(descriptor);
    if (text == MAP_FAILED) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return false;
    }
    if (len == 0)
        return true;
    bool good = lines_read(verify, path, text, len, error, size);
    munmap(text, len);
    return good;
}
