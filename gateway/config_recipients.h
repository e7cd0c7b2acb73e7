/* The recipients of a domain, as the configuration lists them and as the files have them that it
 * names. */
#ifndef GATEWAY_CONFIG_RECIPIENTS_H
#define GATEWAY_CONFIG_RECIPIENTS_H

#include "gateway/config_text.h"
#include "gateway/config_value.h"
#include "gateway/policy/directory.h"

/* config_recipients_add adds what `value` says to `domain` of the directory: a pattern, or "@FILE"
 * with a pattern a line. A relative FILE is looked up in `folder`. In a file, empty lines and those
 * that begin with # count for nothing. Mistakes are told with their line, in a file with its name
 * and its line. */
void config_recipients_add(struct directory *directory, int domain,
                           const struct config_value *value, const char *folder,
                           struct config_errors *errors);

#endif
