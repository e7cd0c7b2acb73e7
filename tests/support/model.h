/* What the standards say about message text, written as plainly as can be: the yardstick for the
 * fast code. */
#ifndef TESTS_SUPPORT_MODEL_H
#define TESTS_SUPPORT_MODEL_H

#include "parser/bytes.h"

/* model_data reads text as DATA sends it (RFC 5321 4.5.2), one line at a time, and writes it
 * without stuffed dots to `text`, which holds as many octets as `in`. Returns how many octets of
 * `in` there are up to and with the end, or 0: it has none. */
size_t model_data(struct bytes in, uint8_t *text, size_t *text_len);

/* model_has_bare tells whether there is a CR without LF, or a LF without CR. */
bool model_has_bare(const uint8_t *text, size_t len);

/* model_random_data writes text as DATA sends it, with an end and a command behind it, to `out`,
 * which has 6,000 octets more than `len_max`; with `bare`, some line ends are wrong. Moves *random
 * on and returns the length. */
size_t model_random_data(uint32_t *random, uint8_t *out, size_t len_max, bool bare);

#endif
