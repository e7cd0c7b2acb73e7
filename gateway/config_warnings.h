/* What is no mistake in a configuration, but hardly meant, or should not stay so. */
#ifndef GATEWAY_CONFIG_WARNINGS_H
#define GATEWAY_CONFIG_WARNINGS_H

#include "gateway/config.h"

/* config_tls_warnings writes a line to `out` for each thing about certificates and secrets that is
 * no mistake but should not stay so at `now_s` (Unix time). */
void config_tls_warnings(const struct config *config, int64_t now_s, FILE *out);

/* config_srs_warnings likewise, about the secrets of SRS. */
void config_srs_warnings(const struct config *config, FILE *out);

/* config_submission_warnings likewise, about users and keys that others can read, and listeners on
 * which nobody can log in. */
void config_submission_warnings(const struct config *config, FILE *out);

/* config_edge_warnings likewise, about who is believed, and what does nothing. */
void config_edge_warnings(const struct config *config, FILE *out);

#endif
