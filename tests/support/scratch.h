/* A folder for the tests of the configuration: files in it, and what is said about them. */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

#include "gateway/config.h"

/* The least that a configuration needs, in three lines. */
#define SCRATCH_LISTENER "listener \"mx\" { address = {\"127.0.0.1:25\"} }\n"
#define SCRATCH_DOMAIN   "domain \"example.org\" { recipients = {\"*\"} deliver = \"discard:\" }\n"
#define SCRATCH_NEEDED   "hostname = \"mx.example.org\"\n" SCRATCH_LISTENER SCRATCH_DOMAIN

/* A text, and all that is said about it. As a macro, so that no formatter makes two columns. */
struct scratch_wrong {
    const char *text;
    const char *said;
};
#define SCRATCH_WRONG(text, said)                                                                  \
    {                                                                                              \
        text, said                                                                                 \
    }

/* scratch_begin makes the folder; scratch_end removes it with all files in it. As cmocka wants
 * them. */
int scratch_begin(void **state);
int scratch_end(void **state);

/* scratch_path returns the path of a file in the folder, in one of eight buffers used in turn. */
const char *scratch_path(const char *name);

void scratch_write(const char *name, const void *data, size_t len);
void scratch_remove(const char *name);
bool scratch_has(const char *name);

/* scratch_load loads a text as the file ringmx.conf; *said, owned, is what was said, without the
 * folder and without "ringmx.conf:". scratch_good fails when anything was said; scratch_all_wrong
 * when anything else than what should be. */
struct config *scratch_load(const char *text, size_t len, char **said);
struct config *scratch_good(const char *text);
void scratch_all_wrong(const struct scratch_wrong *cases, size_t count);

/* scratch_clean takes the folder and "ringmx.conf:" out of a text, in place. */
void scratch_clean(char *text);

#endif
