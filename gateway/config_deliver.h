/* Words about delivering that are more than one number: the schedule of retries, the resolver's
 * servers, the CAs of next hops; and the control socket. */
#ifndef GATEWAY_CONFIG_DELIVER_H
#define GATEWAY_CONFIG_DELIVER_H

#include "gateway/config.h"
#include "gateway/config_value.h"

/* config_deliver_fill fills config->courier and config->control_path. Numbers are there already. A
 * relative file is looked up in `folder`. */
void config_deliver_fill(struct config *config, cfg_t *root, const char *folder,
                         struct config_errors *errors);

#endif
