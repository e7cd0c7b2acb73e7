/* Maildirs: each file in a folder `new` or `cur`, at any depth, is a message for one recipient.
 * What lies elsewhere is none: `tmp` has what was never finished. Places may overlap, and links may
 * lead to the same Maildir or file again: each counts once. */
#include "bench/load/verify_table.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* is_place tells whether messages lie in this folder. */
static bool is_place(const FTSENT *entry)
{
    return strcmp(entry->fts_name, "new") == 0 || strcmp(entry->fts_name, "cur") == 0;
}

/* place_number finds out to which Maildir the folder `new` or `cur` belongs: the one in which it is
 * named, where that may be a link. Its number goes with the entry. 0 or errno. */
static int place_number(struct verify *verify, FTSENT *entry)
{
    struct stat status;
    if (entry->fts_level > FTS_ROOTLEVEL) {
        status = *entry->fts_parent->fts_statp;
    } else {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s", entry->fts_path);
        if (stat(dirname(path), &status) < 0)
            return errno;
    }
    entry->fts_number = verify_seen_add(&verify->maildirs, &status, 0);
    return 0;
}

/* is_new tells whether a file was not seen before. A server may store a message for several
 * recipients as one file with a name in each of their Maildirs; so such a file counts in each. */
static bool is_new(struct verify *verify, const struct stat *status, uint32_t maildir)
{
    uint32_t before = verify->files.count;
    return verify_seen_add(&verify->files, status, status->st_nlink > 1 ? maildir : 0) > before;
}

/* 0 or errno. */
static int file_read(struct verify *verify, const char *path, uint32_t maildir)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return errno;
    void *text = MAP_FAILED;
    int error = fstat(descriptor, &status) < 0 ? errno : 0;
    if (error != 0 || !is_new(verify, &status, maildir)) {
        close(descriptor);
        return error;
    }
    size_t len = (size_t)status.st_size;
    if (len > 0) {
        text = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
        error = text == MAP_FAILED ? errno : 0;
    }
    close(descriptor);
    if (error != 0)
        return error;
    struct verify_found found = {.maildir = maildir, .place = path};
    verify_read(len > 0 ? text : (const uint8_t *)"", len, &found);
    verify_found(verify, &found);
    if (len > 0)
        munmap(text, len);
    return 0;
}

/* One entry of the tree. 0 or errno. *strays counts files that lie elsewhere. Where mail is being
 * delivered or read, files vanish: those in `tmp` are none, and a message that was moved meanwhile
 * is lost unless it is found at its new place. */
static int entry_read(struct verify *verify, FTSENT *entry, uint64_t *strays)
{
    int error = 0;
    uint32_t maildir;
    switch (entry->fts_info) {
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS: error = entry->fts_errno; break;
    case FTS_SLNONE: error = ENOENT; break;
    case FTS_D: error = is_place(entry) ? place_number(verify, entry) : 0; break;
    case FTS_F:
        maildir = (uint32_t)entry->fts_parent->fts_number;
        if (maildir == 0)
            *strays += 1;
        else
            error = file_read(verify, entry->fts_path, maildir);
        break;
    }
    return error == ENOENT && entry->fts_level > FTS_ROOTLEVEL ? 0 : error;
}

bool verify_maildir(struct verify *verify, const char *path, char *error, size_t size)
{
    char root[PATH_MAX];
    snprintf(root, sizeof root, "%s", path);
    for (size_t len = strlen(root); len > 1 && root[len - 1] == '/'; len--)
        root[len - 1] = '\0'; /* or fts would not know what it is called */
    char *paths[] = {root, NULL};
    uint64_t places = 0, strays = 0;
    FTS *tree = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return false;
    }
    int failed = 0;
    for (FTSENT *entry; failed == 0 && (entry = fts_read(tree)) != NULL;) {
        places += entry->fts_info == FTS_D && is_place(entry);
        failed = entry_read(verify, entry, &strays);
        if (failed != 0)
            snprintf(error, size, "%s: %s", entry->fts_path, strerror(failed));
    }
    fts_close(tree);
    if (failed == 0 && places == 0 && strays > 0)
        snprintf(error, size, "%s: neither a Maildir nor a spool is there", path);
    return failed == 0 && (places > 0 || strays == 0);
}
