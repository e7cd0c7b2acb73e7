/* Records that no correct peer makes, with the right keys: any type, any padding, any length, any
 * nonce. Made by code of its own, so it is also a second opinion about tls/record. */
#ifndef TESTS_SUPPORT_FORGE_H
#define TESTS_SUPPORT_FORGE_H

#include "tls/record.h"

enum { FORGE_HEADER_LEN = 5, FORGE_ROOM = 1 << 16 };

/* forge_record writes the record that comes next for the one who opens with `with` (whose sequence
 * number it leaves alone), and returns its length. `inner` is what is sealed: in TLS 1.3 the text,
 * its type and the padding. `sent_nonce` goes into the record where the cipher has it so. */
size_t forge_record(const struct record *with, uint8_t outer_type, const uint8_t *inner,
                    size_t inner_len, uint64_t sent_nonce, uint8_t *out);

/* forge_length is the length of the record that begins at `record`, as its header says;
 * forge_set_length makes it say another. */
size_t forge_length(const uint8_t *record);
void forge_set_length(uint8_t *record, size_t len);

#endif
