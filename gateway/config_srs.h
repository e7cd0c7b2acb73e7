/* The section srs { } and the file of its secrets. */
#ifndef GATEWAY_CONFIG_SRS_H
#define GATEWAY_CONFIG_SRS_H

#include "gateway/config.h"
#include "gateway/config_value.h"

/* config_srs_fill makes config->srs, when the section has anything in it, and tells the directory.
 * A relative file is looked up in `folder`. */
void config_srs_fill(struct config *config, cfg_t *root, const char *folder,
                     struct config_errors *errors);

#endif
