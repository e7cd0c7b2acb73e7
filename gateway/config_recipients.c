/* Recipients from the configuration and from files: see config_recipients.h. A file of a million
 * lines is read with one read and walked once. */
#include "gateway/config_recipients.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TOLD_MAX = 20,  /* bad lines of a file that are told one by one */
    SHOWN_MAX = 80, /* octets of a bad pattern that are shown */
};

static void add_file(struct directory *directory, int domain, const char *path, int line,
                     struct config_errors *errors);

static void add(struct directory *directory, int domain, struct bytes pattern, int line,
                struct config_errors *errors)
{
    errno = 0;
    if (directory_add_recipient(directory, domain, pattern))
        return;
    if (errno == ENOMEM)
        config_error(errors, line, "out of memory");
    else
        config_error(
            errors, line, "recipient \"%.*s\" is none of: a local part, a local part with +*, or *",
            (int)(pattern.len < SHOWN_MAX ? pattern.len : SHOWN_MAX), (const char *)pattern.data);
}

void config_recipients_add(struct directory *directory, int domain,
                           const struct config_value *value, const char *folder,
                           struct config_errors *errors)
{
    if (value->text[0] != '@') {
        add(directory, domain, bytes_of_string(value->text), value->line, errors);
        return;
    }
    char *path = config_value_path(value->text + 1, folder);
    if (path == NULL)
        config_error(errors, value->line, "out of memory");
    else
        add_file(directory, domain, path, value->line, errors);
    free(path);
}

/* Returns the whole file, owned, or NULL with errno set. It is read, not mapped: a mapped file that
 * somebody shortens kills whoever looks at it. */
static char *read_file(const char *path, size_t *len)
{
    struct stat status;
    char *text = NULL;
    *len = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return NULL;
    errno = 0;
    if (fstat(descriptor, &status) == 0 && !S_ISREG(status.st_mode))
        errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    if (errno == 0)
        text = malloc((size_t)status.st_size + 1);
    while (text != NULL && *len < (size_t)status.st_size) {
        ssize_t got = read(descriptor, text + *len, (size_t)status.st_size - *len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(text);
            text = NULL;
        }
        if (got <= 0)
            break;
        *len += (size_t)got;
    }
    int failure = errno;
    close(descriptor);
    errno = failure;
    return text;
}

static struct bytes trimmed(struct bytes text)
{
    while (text.len > 0 && text.data[0] <= ' ')
        text = bytes_skip(text, 1);
    while (text.len > 0 && text.data[text.len - 1] <= ' ')
        text.len--;
    return text;
}

static void add_file(struct directory *directory, int domain, const char *path, int line,
                     struct config_errors *errors)
{
    size_t len;
    char *text = read_file(path, &len);
    if (text == NULL) {
        config_error(errors, line, "recipients file %s: %s", path, strerror(errno));
        return;
    }
    struct config_errors told = {.path = path, .out = errors->out};
    struct config_errors hidden = {.path = path};
    struct bytes rest = bytes_make(text, len);
    for (int number = 1; rest.len > 0; number++) {
        size_t end = bytes_find(rest, '\n');
        struct bytes pattern = trimmed(bytes_slice(rest, 0, end));
        rest = bytes_skip(rest, end + 1);
        if (pattern.len > 0 && pattern.data[0] != '#')
            add(directory, domain, pattern, number, told.count < TOLD_MAX ? &told : &hidden);
    }
    if (hidden.count > 0)
        config_error(&told, 0, "%zu more mistakes", hidden.count);
    errors->count += told.count;
    free(text);
}
