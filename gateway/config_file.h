/* Files that the configuration names: read whole, and walked line by line. */
#ifndef GATEWAY_CONFIG_FILE_H
#define GATEWAY_CONFIG_FILE_H

#include "gateway/config_text.h"
#include "gateway/config_value.h"
#include "parser/bytes.h"

/* config_file_read returns a whole file, owned, with a NUL behind it, or NULL with errno set. Only
 * what is a file is read. */
char *config_file_read(const char *path, size_t *len);

/* config_file_trimmed returns a text without blanks at its ends. */
struct bytes config_file_trimmed(struct bytes text);

/* What is done with a line of a file: `text` without blanks at its ends, borrowed; mistakes are
 * told on `errors`, which has the name of the file. */
typedef void config_file_line(void *user, struct bytes text, int number,
                              struct config_errors *errors);

/* config_file_lines calls `line` for each line of the file that `value` names (all but its first
 * octet, an "@"; a relative one is looked up in `folder`), but for empty ones and those that begin
 * with #. The first mistakes are told one by one, then only counted. `what` is for people. */
void config_file_lines(const struct config_value *value, const char *what, const char *folder,
                       config_file_line *line, void *user, struct config_errors *errors);

/* config_file_warn_of_mode writes a line to `out` when others can read a file that nobody should.
 */
void config_file_warn_of_mode(const char *what, const char *path, FILE *out);

#endif
