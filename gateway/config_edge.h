/* The words about the edge: networks that are trusted, whom limits do not apply to, the greylist,
 * Redis, the admin addresses, and the user to become. */
#ifndef GATEWAY_CONFIG_EDGE_H
#define GATEWAY_CONFIG_EDGE_H

#include "gateway/config.h"
#include "gateway/config_value.h"

/* config_networks returns the networks that a word of a section lists, owned; NULL: none, or it was
 * told what is wrong. */
struct networks *config_networks(cfg_t *section, const char *word, struct config_errors *errors);

/* config_edge_fill reads the rest; numbers are there already. A relative file is looked up in
 * `folder`. config_edge_free frees what it has made. */
void config_edge_fill(struct config *config, cfg_t *root, const char *folder,
                      struct config_errors *errors);
void config_edge_free(struct config *config);

#endif
