/* The words of the configuration file: which there are, and what those that stand for themselves (a
 * number, one of a few choices) may be, as tables. */
#ifndef GATEWAY_CONFIG_WORDS_H
#define GATEWAY_CONFIG_WORDS_H

#include "gateway/config.h"
#include "gateway/config_value.h"

/* config_words returns all words, as libconfuse and config_text want them. */
cfg_opt_t *config_words(void);

/* config_words_fill puts the numbers and choices into `config`, or their defaults. */
void config_words_fill(struct config *config, cfg_t *root, struct config_errors *errors);

#endif
