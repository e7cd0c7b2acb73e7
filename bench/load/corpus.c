/* Reading folders and mbox files: see corpus.h. Each file is mapped, and each message copied once,
 * with its line ends made right. */
#include "bench/load/corpus.h"

#include "bench/words.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_OCTETS = 998, FIELD_NAME_MAX = 76 };

/* What is between two places in memory. */
struct span {
    const uint8_t *data;
    size_t len;
};

/* line_take takes the first line off `rest`, with its LF; the last line may have none. */
static struct span line_take(struct span *rest)
{
    const uint8_t *newline = memchr(rest->data, '\n', rest->len);
    struct span line = {rest->data,
                        newline != NULL ? (size_t)(newline - rest->data) + 1 : rest->len};
    rest->data += line.len;
    rest->len -= line.len;
    return line;
}

static bool begins(struct span span, const char *text)
{
    size_t len = strlen(text);
    return span.len >= len && memcmp(span.data, text, len) == 0;
}

static bool is_empty_line(struct span line)
{
    return (line.len == 1 && line.data[0] == '\n') || (line.len == 2 && begins(line, "\r\n"));
}

/* A ">" or more in front of "From ": what mboxrd has quoted. */
static bool is_quoted_from(struct span line)
{
    size_t quotes = 0;
    while (quotes < line.len && line.data[quotes] == '>')
        quotes++;
    return quotes > 0 && begins((struct span){line.data + quotes, line.len - quotes}, "From ");
}

/* A message begins with a header field (RFC 5322 2.2), or in an mbox. */
static bool looks_like_message(struct span text)
{
    if (begins(text, "From "))
        return true;
    size_t at = 0;
    while (at < text.len && at < FIELD_NAME_MAX && text.data[at] > ' ' && text.data[at] < 127 &&
           text.data[at] != ':')
        at++;
    return at > 0 && at < text.len && text.data[at] == ':';
}

/* --- one message --- */

/* line_add appends a line with CRLF. False: the line can't be sent. */
static bool line_add(struct corpus_message *message, struct span line)
{
    if (line.len > 0 && line.data[line.len - 1] == '\n')
        line.len--;
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    if (line.len > LINE_MAX_OCTETS || memchr(line.data, '\r', line.len) != NULL ||
        memchr(line.data, '\0', line.len) != NULL)
        return false;
    memcpy(message->text + message->len, line.data, line.len);
    for (size_t i = 0; i < line.len; i++)
        message->eight_bit |= line.data[i] > 127;
    memcpy(message->text + message->len + line.len, "\r\n", 2);
    message->len += line.len + 2;
    return true;
}

/* message_add copies the message `text`; `quoted`: it comes from an mbox. */
static void message_add(struct corpus *corpus, struct span text, bool quoted)
{
    size_t lines = 1;
    for (struct span rest = text; rest.len > 0; lines++)
        line_take(&rest);
    struct corpus_message message = {.text = malloc(text.len + 2 * lines)};
    if (corpus->count == corpus->room) {
        corpus->room = corpus->room * 2 + 64;
        corpus->messages = realloc(corpus->messages, corpus->room * sizeof(*corpus->messages));
    }
    if (message.text == NULL || corpus->messages == NULL)
        words_die("no memory for the corpus");
    bool good = true;
    while (good && text.len > 0) {
        struct span line = line_take(&text);
        if (quoted && is_quoted_from(line))
            line = (struct span){line.data + 1, line.len - 1};
        good = line_add(&message, line);
    }
    if (good) {
        corpus->messages[corpus->count++] = message;
        return;
    }
    corpus->left_out++;
    free(message.text);
}

/* --- files --- */

/* mbox_take takes the messages of an mbox apart: each begins with a From_ line, and an empty line
 * that is not its own ends it. Content-Length is believed by nobody. */
static void mbox_take(struct corpus *corpus, struct span rest)
{
    line_take(&rest);
    struct span message = {rest.data, 0};
    struct span last = {NULL, 0}; /* the line before, if it is of the same message */
    while (rest.len > 0) {
        struct span line = line_take(&rest);
        if (begins(line, "From ") && (message.len == 0 || is_empty_line(last))) {
            message_add(corpus, (struct span){message.data, message.len - last.len}, true);
            message = (struct span){rest.data, 0};
            last = (struct span){NULL, 0};
            continue;
        }
        message.len += line.len;
        last = line;
    }
    message.len -= is_empty_line(last) ? last.len : 0;
    message_add(corpus, message, true);
}

/* file_take adds what a file has. `certain`: it has a message even if it does not look so. */
static void file_take(struct corpus *corpus, const char *path, bool certain)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) < 0)
        words_die("%s: %s", path, strerror(errno));
    struct span text = {(const uint8_t *)"", (size_t)status.st_size};
    if (text.len > 0) {
        text.data = mmap(NULL, text.len, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (text.data == MAP_FAILED)
            words_die("%s: %s", path, strerror(errno));
    }
    close(descriptor);
    if (begins(text, "From "))
        mbox_take(corpus, text);
    else if (certain || looks_like_message(text))
        message_add(corpus, text, false);
    if (text.len > 0)
        munmap((void *)(uintptr_t)text.data, text.len);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool is_named_eml(const FTSENT *entry)
{
    return entry->fts_namelen > 4 &&
           strcasecmp(entry->fts_name + entry->fts_namelen - 4, ".eml") == 0;
}

static void folder_take(struct corpus *corpus, const char *path)
{
    char *paths[] = {(char *)(uintptr_t)path, NULL};
    FTS *tree = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    if (tree == NULL)
        words_die("%s: %s", path, strerror(errno));
    for (FTSENT *entry; (entry = fts_read(tree)) != NULL;) {
        if (entry->fts_info == FTS_F)
            file_take(corpus, entry->fts_path, is_named_eml(entry));
        else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_NS)
            words_die("%s: %s", entry->fts_path, strerror(entry->fts_errno));
    }
    fts_close(tree);
}

void corpus_read(struct corpus *corpus, const char *path)
{
    struct stat status;
    *corpus = (struct corpus){0};
    if (stat(path, &status) < 0)
        words_die("%s: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode))
        folder_take(corpus, path);
    else if (S_ISREG(status.st_mode))
        file_take(corpus, path, true);
    else
        words_die("%s: neither a folder nor a file", path);
    if (corpus->count == 0)
        words_die("%s: there is no message that could be sent (%llu were left out)", path,
                  (unsigned long long)corpus->left_out);
}

void corpus_free(struct corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        free(corpus->messages[i].text);
    free(corpus->messages);
    *corpus = (struct corpus){0};
}
