/* Least privilege: from root to a user of its own, then no way back, and only the files and system
 * calls that a mail gateway needs. docs/threat-model.md says what each step is for. */
#ifndef GATEWAY_GATEWAY_SANDBOX_H
#define GATEWAY_GATEWAY_SANDBOX_H

#include "gateway/config.h"

/* sandbox_drop becomes config->user and config->group (with their supplementary groups), gives the
 * folders that we have made to them, and drops all capabilities; nothing to do when no user is
 * named. Before any thread is started, after the sockets are bound. False: `error` has a sentence.
 */
bool sandbox_drop(const struct config *config, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* sandbox_unreadable writes a line to `out` for each file that a reload would have to read and that
 * we may not read any more, and returns how many. After sandbox_drop. */
size_t sandbox_unreadable(const struct config *config, const char *config_path, FILE *out);

/* sandbox_unwritable is for --check: a line to `out` for each folder in which a self-signed
 * certificate is still to be made, and whom we shall become may not. Returns how many. */
size_t sandbox_unwritable(const struct config *config, FILE *out);

/* sandbox_files lets this process, for ever, reach only what the configuration names (Landlock):
 * spool and Maildirs to write, configuration, certificates, tables and the system's settings to
 * read. Before any thread is started. What could not be done (an old kernel) is said in `error`,
 * and true. */
bool sandbox_files(const struct config *config, const char *config_path, char *error,
                   size_t error_size) __attribute__((warn_unused_result));

/* sandbox_covers writes a line to `out` for each path of a configuration that is to be loaded which
 * the files of sandbox_files do not reach, and returns how many. */
size_t sandbox_covers(const struct config *loaded, FILE *out);

/* sandbox_confines: are the rules of sandbox_files in force? */
bool sandbox_confines(void);

/* sandbox_calls lets all threads, for ever, make only the system calls that are needed from here on
 * (seccomp): no new programs, rings or tracing. After everything has started. */
bool sandbox_calls(const struct config *config, char *error, size_t error_size)
    __attribute__((warn_unused_result));

#endif
