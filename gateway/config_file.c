/* Files of recipients, aliases and secrets: see config_file.h. A file of a million lines is read
 * with one read and walked once. */
#include "gateway/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOLD_MAX = 20 /* bad lines of a file that are told one by one */ };

/* Opens what is a file, for reading. -1 with errno set: it can't be, or it is something else. */
static int open_file(const char *path, size_t *size)
{
    struct stat status;
    int error = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return -1;
    if (fstat(descriptor, &status) != 0)
        error = errno;
    else if (!S_ISREG(status.st_mode))
        error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    *size = (size_t)status.st_size;
    if (error == 0)
        return descriptor;
    close(descriptor);
    errno = error;
    return -1;
}

char *config_file_read(const char *path, size_t *len)
{
    size_t size;
    *len = 0;
    int descriptor = open_file(path, &size);
    char *text = descriptor < 0 ? NULL : malloc(size + 1);
    if (descriptor < 0)
        return NULL;
    while (text != NULL && *len < size) {
        ssize_t got = read(descriptor, text + *len, size - *len);
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
    if (text != NULL)
        text[*len] = '\0';
    return text;
}

struct bytes config_file_trimmed(struct bytes text)
{
    while (text.len > 0 && text.data[0] <= ' ')
        text = bytes_skip(text, 1);
    while (text.len > 0 && text.data[text.len - 1] <= ' ')
        text.len--;
    return text;
}

/* walk goes through all lines. Returns 0, or an errno. */
static int walk(FILE *file, config_file_line *line, void *user, struct config_errors *told,
                struct config_errors *hidden)
{
    static const struct bytes mark = BYTES("\xef\xbb\xbf"); /* some editors write it (BOM) */
    char *text = NULL;
    size_t size = 0;
    ssize_t len;
    errno = 0;
    for (int number = 1; (len = getline(&text, &size, file)) > 0; number++) {
        struct bytes whole = bytes_make(text, (size_t)len);
        if (number == 1 && whole.len >= mark.len &&
            bytes_equal(bytes_slice(whole, 0, mark.len), mark))
            whole = bytes_skip(whole, mark.len);
        struct bytes trimmed = config_file_trimmed(whole);
        if (trimmed.len > 0 && trimmed.data[0] != '#')
            line(user, trimmed, number, told->count < TOLD_MAX ? told : hidden);
        errno = 0;
    }
    int error = feof(file) ? 0 : errno;
    if (text != NULL)
        explicit_bzero(text, size); /* hashes of passwords, perhaps */
    free(text);
    return error;
}

void config_file_lines(const struct config_value *value, const char *what, const char *folder,
                       config_file_line *line, void *user, struct config_errors *errors)
{
    size_t size;
    char *path = config_value_path(value->text + 1, folder);
    if (path == NULL) {
        config_error(errors, value->line, "out of memory");
        return;
    }
    config_error_paths(errors, path);
    struct config_errors told = {.path = path, .out = errors->out};
    struct config_errors hidden = {.path = path};
    int descriptor = open_file(path, &size);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "r");
    int error = file == NULL ? errno : walk(file, line, user, &told, &hidden);
    if (error != 0)
        config_error(errors, value->line, "%s file %s: %s", what, path, strerror(error));
    if (hidden.count > 0)
        config_error(&told, 0, "%zu more mistakes", hidden.count);
    errors->count += told.count;
    if (file != NULL)
        fclose(file);
    else if (descriptor >= 0)
        close(descriptor);
    free(path);
}

/* A group may read a key (Debian has ssl-cert for that), but others may not, and a group may not
 * change it. */
void config_file_warn_of_mode(const char *what, const char *path, FILE *out)
{
    struct stat status;
    if (stat(path, &status) == 0 && (status.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        fprintf(out, "%s %s: mode %03o lets others at it: chmod 600 it\n", what, path,
                (unsigned)status.st_mode & 0777);
}
