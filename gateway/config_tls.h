/* The words about TLS: certificates, the secret of session tickets, and how each listener deals
 * with it. Loads the files that they name. */
#ifndef GATEWAY_CONFIG_TLS_H
#define GATEWAY_CONFIG_TLS_H

#include "gateway/config.h"
#include "gateway/config_text.h"

/* config_tls_fill reads the sections certificate { } and tls { }, and loads what they name.
 * Relative files are looked up in `folder`. A self-signed certificate whose files are both missing
 * is left for config_certificates_make. */
void config_tls_fill(struct config *config, cfg_t *root, const char *folder,
                     struct config_errors *errors);

/* config_tls_listener reads the words of TLS in a section listener { } into `listener`, whose
 * client_ca is then the caller's to free. */
void config_tls_listener(struct config_listener *listener, cfg_t *root, cfg_t *section,
                         const char *folder, struct config_errors *errors);

/* config_tls_try makes a context for each listener that speaks TLS, and tells why it can't be made.
 * Without any certificate yet, that waits for config_certificates_make. */
void config_tls_try(const struct config *config, struct config_errors *errors);

/* config_tls_free lets go of what config_tls_fill has made, and wipes the secret. */
void config_tls_free(struct config *config);

#endif
