/* Fuzzes parser/sasl and parser/base64, and with them policy/scram: the first octet chooses what
 * the rest is. What is taken keeps what sasl.h promises, what was decoded is written again as it
 * was, and no last message that a fuzzer makes up proves anything. */
#include "parser/sasl.h"

#include "gateway/base/check.h"
#include "gateway/policy/password.h"
#include "gateway/policy/scram.h"
#include "parser/base64.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void lies_within(struct bytes part, struct bytes whole)
{
    CHECK(part.len == 0 ||
          (part.data >= whole.data && part.data + part.len <= whole.data + whole.len));
}

static void try_plain(struct bytes message)
{
    struct sasl_plain plain;
    if (!sasl_plain_parse(message, &plain))
        return;
    CHECK(plain.authorization.len + plain.user.len + plain.password.len + 2 == message.len);
    CHECK(sasl_name_valid(plain.user) && plain.password.len <= SASL_PASSWORD_MAX);
    lies_within(plain.user, message);
    lies_within(plain.password, message);
}

/* A whole exchange: the first message, and what comes behind the first NUL as the last one. */
static void try_scram(struct bytes message)
{
    static struct scram scram;
    struct sasl_scram_first first;
    struct sasl_scram_final final;
    char out[SCRAM_MESSAGE_MAX];
    size_t end = bytes_find(message, 0), len;
    struct bytes begin = bytes_slice(message, 0, end), last = bytes_skip(message, end + 1);
    bool parsed = sasl_scram_first_parse(begin, &first);
    memset(&scram, 0, sizeof(scram));
    if (sasl_scram_final_parse(last, &final))
        CHECK(final.without_proof.len + final.proof.len + 3 == last.len);
    if (parsed) {
        CHECK(first.gs2_header.len + first.bare.len == begin.len);
        lies_within(first.user, begin);
        lies_within(first.nonce, begin);
    }
    bool plus = parsed && first.binding == 'p';
    if (!scram_begin(&scram, begin, plus, plus))
        return;
    CHECK(parsed && sasl_name_valid(bytes_make(scram.user, scram.user_len)));
    scram.secret = (struct scram_secret){.iterations = 4096, .salt_len = 16};
    crypto_random(scram.secret.stored_key, CRYPTO_SHA256_LEN);
    struct bytes challenge = scram_challenge(&scram);
    CHECK(challenge.len < SCRAM_MESSAGE_MAX && bytes_find(challenge, 0) == challenge.len);
    CHECK(!scram_finish(&scram, last, plus ? scram.secret.stored_key : NULL, out, &len));
}

static void try_bearer(enum sasl_mechanism mechanism, struct bytes message)
{
    struct sasl_bearer bearer;
    if (!sasl_bearer_parse(mechanism, message, &bearer))
        return;
    CHECK(bearer.token.len > 0);
    lies_within(bearer.user, message);
    lies_within(bearer.token, message);
}

static void try_base64(struct bytes text)
{
    uint8_t *octets = malloc(text.len / 4 * 3 + 1);
    char *again = malloc(base64_encoded_len(text.len) + 1);
    size_t len;
    CHECK(octets != NULL && again != NULL);
    if (base64_decode(text, octets, &len)) {
        CHECK(base64_encode(bytes_make(octets, len), again) == text.len);
        CHECK(text.len == 0 || memcmp(again, text.data, text.len) == 0);
    }
    free(octets);
    free(again);
}

/* A stored password: what is taken is within bounds. Comparing would take too long here. */
static void try_password(struct bytes stored)
{
    struct bytes hash;
    const char *error = NULL;
    enum password_scheme scheme = password_read(stored, &hash, &error);
    CHECK((scheme == PASSWORD_UNKNOWN) == (error != NULL));
    if (scheme == PASSWORD_UNKNOWN)
        return;
    lies_within(hash, stored);
    CHECK(hash.len < PASSWORD_TEXT_MAX);
    CHECK(password_memory(scheme, hash) <= PASSWORD_MEMORY_MAX);
    CHECK(password_work(scheme, hash) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t name[SASL_NAME_MAX];
    if (size == 0)
        return 0;
    struct bytes message = bytes_make(data + 1, size - 1);
    switch (data[0] % 7) {
    case 0: try_plain(message); break;
    case 1: try_scram(message); break;
    case 2: try_bearer(SASL_OAUTHBEARER, message); break;
    case 3: try_bearer(SASL_XOAUTH2, message); break;
    case 4: try_base64(message); break;
    case 5: try_password(message); break;
    default: CHECK(sasl_scram_name(message, name) <= SASL_NAME_MAX); break;
    }
    return 0;
}
