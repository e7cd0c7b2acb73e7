/* The words about submission: roles of listeners, who can log in, who may send as whom, what is
 * done to submitted mail, and the keys that sign it. */
#ifndef GATEWAY_CONFIG_SUBMISSION_H
#define GATEWAY_CONFIG_SUBMISSION_H

#include "gateway/config.h"
#include "gateway/config_value.h"

/* config_submission_listener reads role and auth of a listener. */
void config_submission_listener(struct config_listener *listener, cfg_t *section,
                                struct config_errors *errors);

/* config_submission_fill reads the rest; numbers and listeners are there already. A relative file
 * is looked up in `folder`. config_submission_free frees what it has made. */
void config_submission_fill(struct config *config, cfg_t *root, const char *folder,
                            struct config_errors *errors);
/* config_submission_keep_users moves the users of a configuration to the next one, if that asks
 * Dovecot. Workers that began with a users file have no connection to one: until a restart they go
 * on with the users they know, and their domain if no other is named. */
void config_submission_keep_users(struct config *loaded, struct config *old);
void config_submission_free(struct config *config);

#endif
