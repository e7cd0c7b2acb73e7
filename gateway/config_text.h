/* The text of a configuration file before libconfuse reads it. Version 3.3 loses count of lines at
 * comments, drops octets that it has no rule for, takes a section that the file's end cuts off for
 * a whole one, lets a second value silently replace the first, and stops at the first unknown word.
 * So this pass looks at the same words first: it blanks comments, and says all that is wrong with
 * the form, each with its line. */
#ifndef GATEWAY_CONFIG_TEXT_H
#define GATEWAY_CONFIG_TEXT_H

#include <confuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "gateway/config_paths.h"

/* Where mistakes are told, and how many there were. */
struct config_errors {
    const char *path; /* borrowed */
    FILE *out;        /* borrowed; NULL: mistakes are only counted */
    size_t count;
    struct config_paths *paths; /* where files that are named go; borrowed; NULL: nowhere */
};

/* config_error writes `PATH:LINE: MESSAGE` and counts it. Line 0: no line is to blame. */
void config_error(struct config_errors *errors, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* config_error_paths keeps a file that the configuration names. */
void config_error_paths(struct config_errors *errors, const char *path);

/* config_text_prepare checks `text` (`len` octets) against the words that libconfuse will be given.
 * Comments become blanks, and so do unknown words with all that belongs to them, once they are
 * told, so that the rest of the file can be looked at. False: the form is so broken that libconfuse
 * should not see it. */
bool config_text_prepare(char *text, size_t len, const cfg_opt_t *words,
                         struct config_errors *errors) __attribute__((warn_unused_result));

#endif
