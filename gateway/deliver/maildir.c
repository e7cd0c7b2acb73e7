/* A batch holds the files being written and, once each, the Maildirs that they go to. A Maildir is
 * opened component by component below the administrator's prefix without following symbolic links,
 * and all further work is relative to those descriptors: what is renamed or replaced meanwhile
 * cannot lead anything elsewhere. */
#include "gateway/deliver/maildir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/id.h"

enum {
    HOSTNAME_MAX = 128, /* octets of it in a file name */
    NAME_SIZE =
        20 + 8 + 12 + 12 + ID_TEXT_LEN + HOSTNAME_MAX + 8, /* seconds, M, P, Q, id, host, dots */
    OPEN_FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
};

static_assert((int)NAME_SIZE <= (int)FOLDER_NAME_MAX, "a file name is one component");

struct place {
    int tmp, new; /* directories; -1: could not be opened */
    int error;
    const char *step;
    int sync_error; /* of new/ */
    uint32_t len;
    char path[FOLDER_PATH_MAX];
};

struct file {
    struct place *place;
    int descriptor; /* -1: not open */
    bool renamed;
    struct maildir_result result;
    char name[NAME_SIZE];
};

struct maildir {
    uint32_t count, place_count;
    bool committed; /* what is there are results: the next maildir_add starts afresh */
    uint64_t octets;
    uint64_t sequence; /* the Q of file names */
    struct file files[MAILDIR_FILES];
    struct place places[MAILDIR_FILES];
    char hostname[HOSTNAME_MAX + 1];
};

static void safe_hostname(char *out, const char *hostname);
static struct place *find_place(struct maildir *maildir, const struct folder *folder);
static void open_place(struct place *place, const struct folder *folder);
static void open_parts(struct place *place, int directory);
static int open_prefix(const struct folder *folder);
static int open_below(int directory, const char *name, int follow);
static void name_file(struct maildir *maildir, struct file *file, uint64_t message_id);
static int write_all(int descriptor, const struct bytes *texts, int count);
static void fail(struct file *file, int error, const char *step);
static void sync_file(struct file *file);
static void publish_file(struct file *file);
static void check_new(struct file *file);

struct maildir *maildir_new(const char *hostname)
{
    struct maildir *maildir = calloc(1, sizeof *maildir);
    if (maildir != NULL)
        safe_hostname(maildir->hostname, hostname);
    return maildir;
}

void maildir_free(struct maildir *maildir)
{
    if (maildir == NULL)
        return;
    CHECK(maildir->committed || maildir->count == 0);
    free(maildir);
}

uint32_t maildir_room(const struct maildir *maildir)
{
    return maildir->committed ? MAILDIR_FILES : MAILDIR_FILES - maildir->count;
}

uint64_t maildir_octets(const struct maildir *maildir)
{
    return maildir->committed ? 0 : maildir->octets;
}

uint32_t maildir_add(struct maildir *maildir, const struct folder *folder, uint64_t message_id)
{
    if (maildir->committed) {
        maildir->count = 0;
        maildir->octets = 0;
        maildir->committed = false;
    }
    CHECK(maildir->count < MAILDIR_FILES);
    uint32_t index = maildir->count++;
    struct file *file = &maildir->files[index];
    file->descriptor = -1;
    file->renamed = false;
    file->result = (struct maildir_result){0, "none"};
    file->place = find_place(maildir, folder);
    if (file->place->error != 0) {
        fail(file, file->place->error, file->place->step);
        return index;
    }
    name_file(maildir, file, message_id);
    file->descriptor = openat(file->place->tmp, file->name,
                              O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file->descriptor < 0)
        fail(file, -errno, "create file");
    return index;
}

bool maildir_write(struct maildir *maildir, uint32_t first, const struct bytes *texts, int count)
{
    bool alive = false;

    CHECK(!maildir->committed && count >= 1 && count <= 2);
    for (uint32_t i = first; i < maildir->count; i++) {
        struct file *file = &maildir->files[i];
        if (file->result.error != 0)
            continue;
        int error = write_all(file->descriptor, texts, count);
        if (error != 0)
            fail(file, error, "write");
        else
            alive = true;
        for (int t = 0; t < count; t++)
            maildir->octets += texts[t].len;
    }
    return alive;
}

void maildir_fail(struct maildir *maildir, uint32_t index, int error, const char *step)
{
    CHECK(!maildir->committed && index < maildir->count && error < 0);
    if (maildir->files[index].result.error == 0)
        fail(&maildir->files[index], error, step);
}

void maildir_commit(struct maildir *maildir)
{
    CHECK(!maildir->committed);
    /* Write-back of all starts first, so that the first fdatasync commits most of what the others
     * need. */
    for (uint32_t i = 0; i < maildir->count; i++)
        if (maildir->files[i].result.error == 0)
            (void)sync_file_range(maildir->files[i].descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
    for (uint32_t i = 0; i < maildir->count; i++)
        sync_file(&maildir->files[i]);
    for (uint32_t i = 0; i < maildir->count; i++)
        publish_file(&maildir->files[i]);
    for (uint32_t i = 0; i < maildir->place_count; i++) {
        struct place *place = &maildir->places[i];
        if (place->error == 0)
            place->sync_error = fsync(place->new) == 0 ? 0 : -errno;
    }
    for (uint32_t i = 0; i < maildir->count; i++)
        check_new(&maildir->files[i]);
    for (uint32_t i = 0; i < maildir->place_count; i++) {
        if (maildir->places[i].error != 0)
            continue;
        close(maildir->places[i].tmp);
        close(maildir->places[i].new);
    }
    maildir->place_count = 0;
    maildir->committed = true;
}

struct maildir_result maildir_result(const struct maildir *maildir, uint32_t index)
{
    CHECK(maildir->committed && index < maildir->count);
    return maildir->files[index].result;
}

/* The Maildir convention writes "/" and ":" of a host name in octal; anything unprintable becomes
 * "_". */
static void safe_hostname(char *out, const char *hostname)
{
    size_t len = 0;

    for (const char *at = hostname; *at != '\0' && len + 4 <= HOSTNAME_MAX; at++) {
        if (*at == '/' || *at == ':') {
            memcpy(out + len, *at == '/' ? "\\057" : "\\072", 4);
            len += 4;
        } else {
            out[len++] = *at > ' ' && *at < 127 ? *at : '_';
        }
    }
    if (len == 0)
        out[len++] = '_';
    out[len] = '\0';
}

/* Looks for the Maildir among those of the batch, and opens it if it is new. */
static struct place *find_place(struct maildir *maildir, const struct folder *folder)
{
    for (uint32_t i = 0; i < maildir->place_count; i++) {
        struct place *place = &maildir->places[i];
        if (place->len == folder->len && memcmp(place->path, folder->path, folder->len) == 0)
            return place;
    }
    struct place *place = &maildir->places[maildir->place_count++];
    memcpy(place->path, folder->path, folder->len + 1);
    place->len = folder->len;
    open_place(place, folder);
    return place;
}

static void open_place(struct place *place, const struct folder *folder)
{
    place->tmp = place->new = -1;
    place->error = place->sync_error = 0;
    place->step = "open mail folder";
    int directory = open_prefix(folder);
    struct bytes rest =
        bytes_make(folder->path + folder->prefix_len, folder->len - folder->prefix_len);
    while (directory >= 0 && rest.len > 0) {
        char name[FOLDER_NAME_MAX + 1];
        struct bytes component = bytes_slice(rest, 0, bytes_find(rest, '/'));
        rest = bytes_skip(rest, component.len + 1);
        if (component.len == 0)
            continue;
        CHECK(component.len < sizeof name);
        memcpy(name, component.data, component.len);
        name[component.len] = '\0';
        int next = open_below(directory, name, O_NOFOLLOW);
        close(directory);
        directory = next;
    }
    if (directory < 0) {
        place->error = directory;
        return;
    }
    open_parts(place, directory);
    close(directory);
}

/* tmp is made last: where it is, the others have been made. */
static void open_parts(struct place *place, int directory)
{
    place->step = "open tmp";
    place->tmp = openat(directory, "tmp", OPEN_FLAGS | O_NOFOLLOW);
    if (place->tmp < 0 && errno == ENOENT) {
        place->step = "open cur";
        int cur = open_below(directory, "cur", O_NOFOLLOW);
        place->error = cur < 0 ? cur : 0;
        if (cur >= 0)
            close(cur);
    } else if (place->tmp < 0) {
        place->error = -errno;
    }
    if (place->error == 0) {
        place->step = "open new";
        place->new = open_below(directory, "new", O_NOFOLLOW);
        place->error = place->new < 0 ? place->new : 0;
    }
    if (place->error == 0 && place->tmp < 0) {
        place->step = "make tmp";
        place->tmp = open_below(directory, "tmp", O_NOFOLLOW);
        place->error = place->tmp < 0 ? place->tmp : 0;
    }
    if (place->error == 0)
        return;
    if (place->tmp >= 0)
        close(place->tmp);
    if (place->new >= 0)
        close(place->new);
}

/* The prefix is the administrator's: symbolic links in it are followed, and what is missing of it
 * is made. */
static int open_prefix(const struct folder *folder)
{
    char path[FOLDER_PATH_MAX];

    if (folder->prefix_len == 0)
        return open_below(AT_FDCWD, folder->path[0] == '/' ? "/" : ".", 0);
    memcpy(path, folder->path, folder->prefix_len);
    path[folder->prefix_len] = '\0';
    int directory = open(path, OPEN_FLAGS);
    if (directory >= 0 || errno != ENOENT)
        return directory >= 0 ? directory : -errno;
    for (uint32_t i = 1; i <= folder->prefix_len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        char kept = path[i];
        path[i] = '\0';
        int parent = open_below(AT_FDCWD, path, 0);
        path[i] = kept;
        if (parent < 0)
            return parent;
        if (i == folder->prefix_len)
            return parent;
        close(parent);
    }
    return -ENOENT;
}

/* Opens a directory, making it first if it is missing; then its entry is made durable at once. */
static int open_below(int directory, const char *name, int follow)
{
    int opened = openat(directory, name, OPEN_FLAGS | follow);
    if (opened >= 0)
        return opened;
    if (errno != ENOENT)
        return -errno;
    if (mkdirat(directory, name, 0700) != 0 && errno != EEXIST)
        return -errno;
    opened = openat(directory, name, OPEN_FLAGS | follow);
    if (opened < 0)
        return -errno;
    int parent = openat(opened, "..", OPEN_FLAGS);
    int error = parent < 0 || fsync(parent) != 0 ? -errno : 0;
    if (parent >= 0)
        close(parent);
    if (error != 0) {
        close(opened);
        return error;
    }
    return opened;
}

/* Unique as the Maildir convention asks: time, process, counter, host; and the message id, by which
 * a second copy after a crash can be told from a second message. */
static void name_file(struct maildir *maildir, struct file *file, uint64_t message_id)
{
    char id[ID_TEXT_LEN + 1];
    uint64_t now_us = clock_wall_us();

    id_format(message_id, id);
    int len =
        snprintf(file->name, sizeof file->name, "%llu.M%lluP%dQ%llu.%s.%s",
                 (unsigned long long)(now_us / 1000000), (unsigned long long)(now_us % 1000000),
                 (int)getpid(), (unsigned long long)++maildir->sequence, id, maildir->hostname);
    CHECK(len > 0 && (size_t)len < sizeof file->name);
}

static int write_all(int descriptor, const struct bytes *texts, int count)
{
    struct bytes rest[2] = {texts[0], count > 1 ? texts[1] : bytes_make(NULL, 0)};

    while (rest[0].len + rest[1].len > 0) {
        /* The kernel only reads from these; struct iovec has no const. */
        struct iovec vectors[2] = {
            {.iov_base = (void *)(uintptr_t)rest[0].data, .iov_len = rest[0].len},
            {.iov_base = (void *)(uintptr_t)rest[1].data, .iov_len = rest[1].len},
        };
        ssize_t written = writev(descriptor, vectors, 2);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        if (written == 0)
            return -EIO;
        size_t of_first = (size_t)written < rest[0].len ? (size_t)written : rest[0].len;
        rest[0] = bytes_skip(rest[0], of_first);
        rest[1] = bytes_skip(rest[1], (size_t)written - of_first);
    }
    return 0;
}

/* Takes the file back out of the Maildir, wherever it is by now. */
static void fail(struct file *file, int error, const char *step)
{
    file->result = (struct maildir_result){error, step};
    if (file->descriptor >= 0) {
        close(file->descriptor);
        unlinkat(file->place->tmp, file->name, 0);
    } else if (file->renamed) {
        unlinkat(file->place->new, file->name, 0);
    }
    file->descriptor = -1;
}

static void sync_file(struct file *file)
{
    if (file->result.error == 0 && fdatasync(file->descriptor) != 0)
        fail(file, -errno, "sync file");
}

static void publish_file(struct file *file)
{
    if (file->result.error != 0)
        return;
    int tmp = file->place->tmp, new = file->place->new;
    int done = renameat2(tmp, file->name, new, file->name, RENAME_NOREPLACE);
    if (done != 0 && errno == EINVAL) /* a file system without that flag; names are unique anyway */
        done = renameat(tmp, file->name, new, file->name);
    if (done != 0) {
        fail(file, -errno, "rename to new");
        return;
    }
    file->renamed = true;
    if (close(file->descriptor) != 0) {
        file->descriptor = -1;
        fail(file, -errno, "close");
        return;
    }
    file->descriptor = -1;
}

/* After new/ could not be synced nobody knows whether the file would survive: it is withdrawn and
 * counts as not delivered. */
static void check_new(struct file *file)
{
    if (file->result.error == 0 && file->place->sync_error != 0)
        fail(file, file->place->sync_error, "sync new");
}
