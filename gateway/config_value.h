/* One value of the configuration file with the line it stands in, and what it can mean: a count, a
 * size, a time, one of a few words, a file. */
#ifndef GATEWAY_CONFIG_VALUE_H
#define GATEWAY_CONFIG_VALUE_H

#include <confuse.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/config_text.h"

struct config_value {
    int line;
    char text[];
};

/* config_value_parse is libconfuse's call-back for every word: it makes an owned struct
 * config_value. */
int config_value_parse(cfg_t *section, cfg_opt_t *word, const char *text, void *result);

/* config_value_at returns value `index` of a word, borrowed from `section`, or NULL when there is
 * none. */
const struct config_value *config_value_at(cfg_t *section, const char *word, unsigned index);

enum config_unit {
    CONFIG_COUNT = 0,
    CONFIG_SIZE = 1, /* octets: k, M, G are powers of 1024 */
    CONFIG_TIME = 2, /* seconds: s, m, h, d */
};

/* config_value_number reads digits and at most one unit, without blanks. False: it is something
 * else, or more than 64 bits hold. */
bool config_value_number(const char *text, enum config_unit unit, uint64_t *out)
    __attribute__((warn_unused_result));

/* config_value_choice finds `text` among `choices`, which end with NULL: returns its index, or -1
 * and writes all of them, as "a, b, c", to `known`. */
int config_value_choice(const char *text, const char *const *choices, char *known,
                        size_t known_size) __attribute__((warn_unused_result));

/* config_value_path returns the file that a value names, owned: a relative one is looked up in
 * `folder`. NULL: no memory. */
char *config_value_path(const char *text, const char *folder) __attribute__((warn_unused_result));

/* A word that is a number, and what it may be. */
struct config_bounds {
    enum config_unit unit;
    uint64_t min, max;
    uint64_t multiple_of; /* 0: a power of two */
};

/* config_word_number, config_word_choice and config_word_path return what a word of a section says:
 * a number within its bounds, the index among `choices` (which end with NULL), the path of a file,
 * looked up in `folder` and owned. `fallback` (of a path: NULL), which may lie out of the bounds,
 * when the word is not there, or when it was told what is wrong with it. */
uint64_t config_word_number(cfg_t *section, const char *word, const struct config_bounds *bounds,
                            uint64_t fallback, struct config_errors *errors);
int config_word_choice(cfg_t *section, const char *word, const char *const *choices, int fallback,
                       struct config_errors *errors);
char *config_word_path(cfg_t *section, const char *word, const char *folder,
                       struct config_errors *errors);

/* config_number_checked reads one value as `config_word_number` does; `name` is for people. False:
 * it was told what is wrong. */
bool config_number_checked(const struct config_value *value, const char *name,
                           const struct config_bounds *bounds, uint64_t *out,
                           struct config_errors *errors) __attribute__((warn_unused_result));

/* The choices of a word that is true or false. */
extern const char *const config_booleans[];

enum { CONFIG_NUMBER_TEXT = 24 };

/* config_value_format writes a number the way people would ("50M") to `out` of CONFIG_NUMBER_TEXT
 * and returns it. */
char *config_value_format(uint64_t number, enum config_unit unit, char *out);

#endif
