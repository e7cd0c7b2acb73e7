/* Aliases: the sections alias { } and the files of the word aliases, into the directory. */
#ifndef GATEWAY_CONFIG_ALIASES_H
#define GATEWAY_CONFIG_ALIASES_H

#include "gateway/config_value.h"
#include "gateway/policy/directory.h"

/* config_aliases_fill adds all aliases to the directory, whose domains are there, and looks for
 * circles among them. Relative files are looked up in `folder`. */
void config_aliases_fill(struct directory *directory, cfg_t *root, const char *folder,
                         struct config_errors *errors);

#endif
