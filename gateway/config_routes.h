/* Where mail goes: the sections domain { }, relay { } and alias { }, and the files of recipients
 * and aliases. Fills the directory and the table of routes. */
#ifndef GATEWAY_CONFIG_ROUTES_H
#define GATEWAY_CONFIG_ROUTES_H

#include "gateway/config.h"
#include "gateway/config_value.h"

/* config_routes_fill reads all of it into config->directory and config->routes, which are there.
 * Relative files are looked up in `folder`. */
void config_routes_fill(struct config *config, cfg_t *root, const char *folder,
                        struct config_errors *errors);

#endif
