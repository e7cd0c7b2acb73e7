/* The users file, line by line: see ringmxctl_file.h. A change is a new file beside the old one,
 * on disk before it takes its name. */
#include "gateway/admin/ringmxctl_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct user_file {
    char *path; /* no symbolic link */
    int folder; /* locked */
    bool exists;
    struct stat status;
    char *text;
    size_t len;
};

/* --- reading --- */

/* resolve sets the path of what is there, or of what is to be made. */
static int resolve(struct user_file *file, const char *path, bool make)
{
    file->path = realpath(path, NULL);
    file->exists = file->path != NULL;
    if (file->exists)
        return 0;
    if (errno != ENOENT || !make)
        return errno;
    file->path = strdup(path);
    return file->path == NULL ? ENOMEM : 0;
}

static int lock_folder(struct user_file *file)
{
    char *slash = strrchr(file->path, '/');
    const char *folder = slash == NULL ? "." : slash == file->path ? "/" : file->path;
    if (slash != NULL && slash != file->path)
        *slash = '\0';
    file->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    if (slash != NULL && slash != file->path)
        *slash = '/';
    if (file->folder < 0)
        return error;
    return flock(file->folder, LOCK_EX) == 0 ? 0 : errno;
}

static int read_whole(struct user_file *file)
{
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return errno;
    int error = fstat(descriptor, &file->status) != 0 ? errno
                : !S_ISREG(file->status.st_mode)      ? EINVAL
                                                      : 0;
    size_t size = error == 0 ? (size_t)file->status.st_size : 0;
    file->text = malloc(size + 1);
    if (file->text == NULL)
        error = ENOMEM;
    while (error == 0 && file->len < size) {
        ssize_t got = read(descriptor, file->text + file->len, size - file->len);
        if (got < 0 && errno != EINTR)
            error = errno;
        if (got == 0)
            break;
        file->len += got > 0 ? (size_t)got : 0;
    }
    close(descriptor);
    return error;
}

int user_file_open(const char *path, bool make, struct user_file **out)
{
    struct user_file *file = calloc(1, sizeof(*file));
    *out = file;
    if (file == NULL)
        return ENOMEM;
    file->folder = -1;
    int error = resolve(file, path, make);
    if (error == 0)
        error = lock_folder(file);
    /* Somebody who was first may have made it, or another one in its place. */
    if (error == 0)
        error = read_whole(file);
    if (error == ENOENT && make && file->folder >= 0) {
        file->exists = false;
        return 0;
    }
    file->exists = true;
    if (error != 0)
        user_file_close(file);
    return error;
}

void user_file_close(struct user_file *file)
{
    if (file == NULL)
        return;
    if (file->folder >= 0)
        close(file->folder);
    free(file->text);
    free(file->path);
    free(file);
}

/* --- lines --- */

struct line {
    struct bytes whole; /* with its end */
    struct bytes name, stored, rest;
};

/* next takes a line. name.len 0: it is no user's. */
static bool next(struct bytes *left, struct line *line)
{
    static const struct bytes mark = BYTES("\xef\xbb\xbf"); /* the gateway skips it, too */
    if (left->len == 0)
        return false;
    size_t end = bytes_find(*left, '\n');
    line->whole = bytes_slice(*left, 0, end < left->len ? end + 1 : end);
    *left = bytes_skip(*left, line->whole.len);
    struct bytes text = line->whole;
    if (text.len >= mark.len && bytes_equal(bytes_slice(text, 0, mark.len), mark))
        text = bytes_skip(text, mark.len);
    while (text.len > 0 && text.data[0] <= ' ')
        text = bytes_skip(text, 1);
    while (text.len > 0 && text.data[text.len - 1] <= ' ')
        text.len--;
    size_t colon = bytes_find(text, ':');
    line->name = line->stored = line->rest = bytes_slice(text, text.len, text.len);
    if (colon == text.len || text.data[0] == '#')
        return true;
    line->name = bytes_slice(text, 0, colon);
    text = bytes_skip(text, colon + 1);
    size_t second = bytes_find(text, ':');
    line->stored = bytes_slice(text, 0, second);
    line->rest = bytes_skip(text, second);
    return true;
}

bool user_file_has(const struct user_file *file, struct bytes name)
{
    struct bytes left = bytes_make(file->text, file->len);
    struct line line;
    while (next(&left, &line))
        if (bytes_equal_nocase(line.name, name))
            return true;
    return false;
}

static bool is_locked(struct bytes stored)
{
    return stored.len > 0 && (stored.data[0] == '!' || stored.data[0] == '*');
}

bool user_file_locked(const struct user_file *file, struct bytes name)
{
    struct bytes left = bytes_make(file->text, file->len);
    struct line line;
    while (next(&left, &line))
        if (bytes_equal_nocase(line.name, name))
            return is_locked(line.stored);
    return false;
}

void user_file_each(const struct user_file *file,
                    void (*show)(void *user, struct bytes name, struct bytes stored), void *user)
{
    struct bytes left = bytes_make(file->text, file->len);
    struct line line;
    while (next(&left, &line))
        if (line.name.len > 0)
            show(user, line.name, line.stored);
}

/* --- writing --- */

static void put(FILE *out, struct bytes text)
{
    if (text.len > 0)
        fwrite(text.data, 1, text.len, out);
}

static void put_user(FILE *out, struct bytes name, bool locked, struct bytes stored,
                     struct bytes rest)
{
    put(out, name);
    fputs(locked ? ":!" : ":", out);
    put(out, stored);
    put(out, rest);
    fputc('\n', out);
}

static void write_lines(const struct user_file *file, struct bytes name, struct bytes stored,
                        FILE *out)
{
    struct bytes left = bytes_make(file->text, file->len);
    struct line line = {0};
    bool found = false;
    while (next(&left, &line)) {
        if (!bytes_equal_nocase(line.name, name)) {
            put(out, line.whole);
            continue;
        }
        if (!found && stored.len > 0)
            put_user(out, line.name, is_locked(line.stored), stored, line.rest);
        found = true;
    }
    if (found || stored.len == 0)
        return;
    if (file->len > 0 && file->text[file->len - 1] != '\n')
        fputc('\n', out);
    put_user(out, name, false, stored, bytes_make(NULL, 0));
}

/* give_away sets mode and owner: those of the old file; a new one may be read by the group that may
 * read its folder, which is how the gateway reads it after it has let go of root. */
static bool give_away(const struct user_file *file, int descriptor)
{
    struct stat like = file->status;
    mode_t mode = like.st_mode & 07777;
    if (!file->exists) {
        if (fstat(file->folder, &like) != 0)
            return false;
        if ((like.st_mode & S_IRGRP) == 0 || (like.st_mode & S_IROTH) != 0)
            return true;
        mode = S_IRUSR | S_IWUSR | S_IRGRP;
    }
    return fchown(descriptor, like.st_uid, like.st_gid) == 0 && fchmod(descriptor, mode) == 0;
}

static int fill(const struct user_file *file, int descriptor, struct bytes name,
                struct bytes stored)
{
    FILE *out = fdopen(descriptor, "w");
    if (out == NULL) {
        int error = errno;
        close(descriptor);
        return error;
    }
    errno = 0;
    write_lines(file, name, stored, out);
    bool good = fflush(out) == 0 && ferror(out) == 0;
    good = good && give_away(file, descriptor) && fsync(descriptor) == 0;
    int error = good ? 0 : errno != 0 ? errno : EIO;
    if (fclose(out) != 0 && error == 0)
        error = errno;
    return error;
}

int user_file_set(struct user_file *file, struct bytes name, struct bytes stored)
{
    size_t size = strlen(file->path) + sizeof(".XXXXXX");
    char *path = malloc(size);
    if (path == NULL)
        return ENOMEM;
    snprintf(path, size, "%s.XXXXXX", file->path);
    int descriptor = mkostemp(path, O_CLOEXEC); /* mode 0600 */
    int error = descriptor < 0 ? errno : fill(file, descriptor, name, stored);
    if (error == 0 && rename(path, file->path) != 0)
        error = errno;
    if (error != 0 && descriptor >= 0)
        unlink(path);
    if (error == 0 && fsync(file->folder) != 0)
        error = errno;
    free(path);
    return error;
}
