/* See forge.h. */
#include "tests/support/forge.h"

#include "gateway/base/check.h"

#include <string.h>

size_t forge_length(const uint8_t *record)
{
    return FORGE_HEADER_LEN + ((size_t)record[3] << 8 | record[4]);
}

void forge_set_length(uint8_t *record, size_t len)
{
    record[3] = (uint8_t)((len - FORGE_HEADER_LEN) >> 8);
    record[4] = (uint8_t)(len - FORGE_HEADER_LEN);
}

static void put_64(uint8_t *out, uint64_t number)
{
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(number >> (56 - 8 * i));
}

size_t forge_record(const struct record *with, uint8_t outer_type, const uint8_t *inner,
                    size_t inner_len, uint64_t sent_nonce, uint8_t *out)
{
    uint8_t nonce[12], aad[13];
    size_t front = FORGE_HEADER_LEN + (with->nonce_sent ? 8 : 0), sealed_len;
    const uint8_t header[] = {outer_type, 3, 3};
    CHECK(front + inner_len + RECORD_TAG_LEN <= FORGE_ROOM);
    memcpy(out, header, 3);
    forge_set_length(out, front + inner_len + RECORD_TAG_LEN);
    memcpy(nonce, with->iv, sizeof(nonce));
    put_64(aad, with->sequence);
    if (with->nonce_sent) {
        put_64(out + FORGE_HEADER_LEN, sent_nonce);
        put_64(nonce + 4, sent_nonce);
    } else {
        for (size_t i = 4; i < sizeof(nonce); i++)
            nonce[i] ^= aad[i - 4];
    }
    memcpy(aad + 8, header, 3);
    aad[11] = (uint8_t)(inner_len >> 8);
    aad[12] = (uint8_t)inner_len;
    CHECK(EVP_AEAD_CTX_seal(&with->aead, out + front, &sealed_len, inner_len + RECORD_TAG_LEN,
                            nonce, sizeof(nonce), inner, inner_len, with->modern ? out : aad,
                            with->modern ? FORGE_HEADER_LEN : sizeof(aad)) == 1);
    return front + sealed_len;
}
