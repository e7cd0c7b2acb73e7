/* See record.h. Header, nonce, sequence number and content type; EVP_AEAD does the rest. */
#include "tls/record.h"

#include <openssl/hkdf.h>
#include <openssl/mem.h>

#include <string.h>

enum {
    HEADER_LEN = 5,
    VERSION_MAJOR = 3, /* TLS 1.2; TLS 1.3 says the same on the wire (RFC 8446 5.1) */
    VERSION_MINOR = 3,
    TEXT_MAX = 16384,
    SENT_NONCE_LEN = 8,
    FIXED_NONCE_LEN = 4,
    OLD_AAD_LEN = 13,
    KEY_MAX = 32,
};

/* The sequence number may never wrap; nobody sends so many records. */
static const uint64_t sequence_max = UINT64_C(1) << 48;

static void put_16(uint8_t *out, size_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
}

static void put_64(uint8_t *out, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        out[i] = (uint8_t)value;
}

/* --- keys --- */

/* expand is HKDF-Expand-Label without a context (RFC 8446 7.1). */
static bool expand(const struct record *record, const char *label, uint8_t *out, size_t out_len)
{
    uint8_t info[64];
    size_t label_len = strlen(label);
    put_16(info, out_len);
    info[2] = (uint8_t)(6 + label_len);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, label_len);
    info[9 + label_len] = 0;
    return HKDF_expand(out, out_len, record->digest, record->secret, record->secret_len, info,
                       10 + label_len) == 1;
}

/* take_keys makes cipher and nonce from the traffic secret; the sequence begins anew (7.3). */
static bool take_keys(struct record *record)
{
    uint8_t key[KEY_MAX];
    size_t key_len = EVP_AEAD_key_length(record->algorithm);
    bool ok = key_len <= sizeof(key) && expand(record, "key", key, key_len) &&
              expand(record, "iv", record->iv, RECORD_IV_LEN) &&
              EVP_AEAD_CTX_init(&record->aead, record->algorithm, key, key_len, RECORD_TAG_LEN,
                                NULL) == 1;
    OPENSSL_cleanse(key, sizeof(key));
    return ok;
}

bool record_start_modern(struct record *record, const EVP_AEAD *algorithm, const EVP_MD *digest,
                         const uint8_t *secret, size_t secret_len, uint64_t sequence)
{
    memset(record, 0, sizeof(*record));
    if (secret_len > sizeof(record->secret) || secret_len != EVP_MD_size(digest))
        return false;
    EVP_AEAD_CTX_zero(&record->aead);
    record->modern = true;
    record->algorithm = algorithm;
    record->digest = digest;
    record->secret_len = (uint8_t)secret_len;
    memcpy(record->secret, secret, secret_len);
    record->sequence = sequence;
    return take_keys(record);
}

bool record_start(struct record *record, const EVP_AEAD *algorithm, const uint8_t *key,
                  const uint8_t *iv, size_t iv_len, uint64_t sequence)
{
    memset(record, 0, sizeof(*record));
    EVP_AEAD_CTX_zero(&record->aead);
    if (iv_len != FIXED_NONCE_LEN && iv_len != RECORD_IV_LEN)
        return false;
    record->algorithm = algorithm;
    record->nonce_sent = iv_len == FIXED_NONCE_LEN;
    memcpy(record->iv, iv, iv_len);
    record->sequence = sequence;
    return EVP_AEAD_CTX_init(&record->aead, algorithm, key, EVP_AEAD_key_length(algorithm),
                             RECORD_TAG_LEN, NULL) == 1;
}

void record_end(struct record *record)
{
    if (record->algorithm != NULL)
        EVP_AEAD_CTX_cleanup(&record->aead);
    OPENSSL_cleanse(record, sizeof(*record));
}

bool record_update(struct record *record)
{
    uint8_t next[RECORD_SECRET_MAX];
    if (!expand(record, "traffic upd", next, record->secret_len))
        return false;
    memcpy(record->secret, next, record->secret_len);
    OPENSSL_cleanse(next, sizeof(next));
    EVP_AEAD_CTX_cleanup(&record->aead);
    EVP_AEAD_CTX_zero(&record->aead);
    record->sequence = 0;
    return take_keys(record);
}

/* --- records --- */

/* make_nonce: the fixed part and eight octets on the wire (RFC 5288 3), or the sequence number
 * mixed into the secret one (RFC 8446 5.3, RFC 7905 2). */
static void make_nonce(const struct record *record, const uint8_t *sent,
                       uint8_t nonce[RECORD_IV_LEN])
{
    memcpy(nonce, record->iv, RECORD_IV_LEN);
    if (record->nonce_sent) {
        memcpy(nonce + FIXED_NONCE_LEN, sent, SENT_NONCE_LEN);
        return;
    }
    uint8_t sequence[8];
    put_64(sequence, record->sequence);
    for (int i = 0; i < 8; i++)
        nonce[RECORD_IV_LEN - 8 + i] ^= sequence[i];
}

/* make_aad writes what is authenticated beside the text, and returns its length: the header of the
 * record (RFC 8446 5.2), or number, type, version and length of the text (RFC 5246 6.2.3.3). */
static size_t make_aad(const struct record *record, const uint8_t *header, size_t text_len,
                       uint8_t aad[OLD_AAD_LEN])
{
    if (record->modern) {
        memcpy(aad, header, HEADER_LEN);
        return HEADER_LEN;
    }
    put_64(aad, record->sequence);
    memcpy(aad + 8, header, 3);
    put_16(aad + 11, text_len);
    return OLD_AAD_LEN;
}

size_t record_front(const struct record *record)
{
    return HEADER_LEN + (record->nonce_sent ? SENT_NONCE_LEN : 0);
}

size_t record_seal(struct record *record, enum record_type type, uint8_t *out, const uint8_t *text,
                   size_t len)
{
    if (record->sequence >= sequence_max || len > TEXT_MAX)
        return 0;
    uint8_t nonce[RECORD_IV_LEN], aad[OLD_AAD_LEN];
    uint8_t inner_type = (uint8_t)type;
    size_t front = record_front(record);
    size_t inner = record->modern ? 1 : 0; /* the type goes inside, behind the text */
    size_t whole = front + len + inner + RECORD_TAG_LEN;
    out[0] = record->modern ? RECORD_DATA : (uint8_t)type;
    out[1] = VERSION_MAJOR;
    out[2] = VERSION_MINOR;
    put_16(out + 3, whole - HEADER_LEN);
    if (record->nonce_sent)
        put_64(out + HEADER_LEN, record->sequence);
    make_nonce(record, out + HEADER_LEN, nonce);
    size_t aad_len = make_aad(record, out, len, aad);
    size_t tail_len;
    if (EVP_AEAD_CTX_seal_scatter(&record->aead, out + front, out + front + len, &tail_len,
                                  inner + RECORD_TAG_LEN, nonce, RECORD_IV_LEN, text, len,
                                  &inner_type, inner, aad, aad_len) != 1)
        return 0;
    record->sequence++;
    return whole;
}

/* strip finds the content type behind the text, before the padding (RFC 8446 5.4). */
static enum record_result strip(const uint8_t *text, size_t *len, enum record_type *type)
{
    if (*len > TEXT_MAX + 1)
        return RECORD_OVERFLOW;
    size_t end = *len;
    while (end > 0 && text[end - 1] == 0)
        end--;
    if (end == 0)
        return RECORD_UNEXPECTED; /* nothing but padding */
    *type = (enum record_type)text[end - 1];
    *len = end - 1;
    return RECORD_OK;
}

enum record_result record_open(struct record *record, uint8_t *data, size_t len,
                               enum record_type *type, uint8_t **text, size_t *text_len)
{
    size_t front = record_front(record);
    *type = (enum record_type)data[0];
    if (data[1] != VERSION_MAJOR || data[2] != VERSION_MINOR ||
        (record->modern && data[0] != RECORD_DATA))
        return RECORD_UNEXPECTED;
    if (len < front + RECORD_TAG_LEN || record->sequence >= sequence_max)
        return RECORD_BAD_MAC;
    uint8_t nonce[RECORD_IV_LEN], aad[OLD_AAD_LEN];
    make_nonce(record, data + HEADER_LEN, nonce);
    size_t aad_len = make_aad(record, data, len - front - RECORD_TAG_LEN, aad);
    *text = data + front;
    if (EVP_AEAD_CTX_open(&record->aead, *text, text_len, len - front, nonce, RECORD_IV_LEN, *text,
                          len - front, aad, aad_len) != 1)
        return RECORD_BAD_MAC;
    record->sequence++;
    if (record->modern)
        return strip(*text, text_len, type);
    return *text_len > TEXT_MAX ? RECORD_OVERFLOW : RECORD_OK;
}
