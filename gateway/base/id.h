/* The message id as people see it: in replies, in the Received field, in the log and in file names.
 * 64 bits as 13 characters of lower-case base32 (RFC 4648 section 6, no padding): the eight octets,
 * most significant first, so `base32 -d` in any language reads it back. */
#ifndef GATEWAY_BASE_ID_H
#define GATEWAY_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ID_TEXT_LEN = 13 };

/* id_format writes the text form and a final NUL. */
void id_format(uint64_t id, char out[ID_TEXT_LEN + 1]);

/* id_parse reads a text form, in any case. False when `text` is not one: another length, another
 * character, or a last character that no id gives (each id has exactly one form but for the case).
 */
bool id_parse(const char *text, size_t len, uint64_t *id) __attribute__((warn_unused_result));

#endif
