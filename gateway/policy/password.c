/* Stored passwords: see password.h. Argon2 is computed in one thread, whatever its lanes: a helper
 * is one thread, and the sandbox lets it start no others. */
#include "gateway/policy/password.h"

#include <argon2.h>
#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/policy/scram.h"
#include "parser/base64.h"

/* What is taken: more would hold a helper for many seconds, less is broken in no time. */
enum {
    ROUNDS_MAX = 5000000, /* SHA-crypt */
    BCRYPT_COST_MAX = 16,
    ARGON2_PASSES_MAX = 64,
    ARGON2_WORK_MAX = 4 << 20, /* KiB x passes */
    ARGON2_LANES_MAX = 16,
    ARGON2_DIGEST_MAX = 64,
    ARGON2_SALT_MAX = 64,
    YESCRYPT_LOG2_MAX = 20,
};

/* What is made. */
enum {
    ROUNDS = 100000,
    BCRYPT_COST = 10,
    ARGON2_MEMORY_KIB = 65536, /* as doveadm */
    ARGON2_PASSES = 3,
    ARGON2_DIGEST = 32,
    ARGON2_SALT = 16,
    ITERATIONS = 100000,
};

_Static_assert((int)ARGON2_MEMORY_KIB <= (int)ARGON2_WORK_MAX / (int)ARGON2_PASSES,
               "what is made is taken");
_Static_assert((int)CRYPT_OUTPUT_SIZE < (int)PASSWORD_TEXT_MAX, "a hash fits");

static const struct bytes names[PASSWORD_SCHEME_COUNT] = {
    [PASSWORD_UNKNOWN] = BYTES(""),
    [PASSWORD_SHA512_CRYPT] = BYTES("SHA512-CRYPT"),
    [PASSWORD_BLF_CRYPT] = BYTES("BLF-CRYPT"),
    [PASSWORD_ARGON2ID] = BYTES("ARGON2ID"),
    [PASSWORD_SCRAM_SHA_256] = BYTES("SCRAM-SHA-256"),
    [PASSWORD_CRYPT] = BYTES("CRYPT"),
};

enum password_scheme password_scheme_find(struct bytes name)
{
    for (int i = PASSWORD_UNKNOWN + 1; i < PASSWORD_SCHEME_COUNT; i++)
        if (bytes_equal_nocase(name, names[i]))
            return (enum password_scheme)i;
    return PASSWORD_UNKNOWN;
}

const char *password_scheme_name(enum password_scheme scheme)
{
    return (const char *)names[scheme].data;
}

/* --- reading --- */

static bool starts_with(struct bytes text, struct bytes start)
{
    return text.len >= start.len && bytes_equal(bytes_slice(text, 0, start.len), start);
}

/* take_number reads "name=number" or "number" up to `end`, and skips it. */
static bool take_number(struct bytes *rest, struct bytes name, uint8_t end, uint32_t *number)
{
    if (!starts_with(*rest, name))
        return false;
    struct bytes digits = bytes_skip(*rest, name.len);
    size_t len = bytes_find(digits, end);
    *number = 0;
    if (len == 0 || len == digits.len || len > 9)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)(digits.data[i] - '0') > 9)
            return false;
        *number = *number * 10 + digits.data[i] - '0';
    }
    *rest = bytes_skip(digits, len + 1);
    return true;
}

static int crypt_value(uint8_t c)
{
    return c >= '.' && c <= '9'   ? c - '.'
           : c >= 'A' && c <= 'Z' ? c - 'A' + 12
           : c >= 'a' && c <= 'z' ? c - 'a' + 38
                                  : -1;
}

/* only_crypt: a salt and a digest, each in crypt's letters, with a "$" between. */
static bool salt_and_digest(struct bytes text, size_t salt_max, size_t digest)
{
    size_t salt = bytes_find(text, '$');
    if (salt > salt_max || text.len != salt + 1 + digest)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (i != salt && crypt_value(text.data[i]) < 0)
            return false;
    return true;
}

/* How much work a hash is. */
struct cost {
    uint64_t work; /* unlike that of another cost of the same kind */
    uint64_t memory;
};

static const char malformed[] = "the hash is malformed";
static const char expensive[] = "the hash costs more than is taken";

/* sha_crypt: [rounds=N$]salt$digest. */
static const char *sha_crypt(struct bytes rest, size_t digest, struct cost *cost)
{
    uint32_t rounds = 5000;
    if (starts_with(rest, BYTES("rounds=")) && !take_number(&rest, BYTES("rounds="), '$', &rounds))
        return malformed;
    cost->work = rounds;
    return rounds < 1000 || !salt_and_digest(rest, 16, digest) ? malformed
           : rounds > ROUNDS_MAX                               ? expensive
                                                               : NULL;
}

/* bcrypt: NN$ and 22 + 31 letters. */
static const char *bcrypt(struct bytes rest, struct cost *cost)
{
    uint32_t number;
    if (rest.len != 56 || !take_number(&rest, BYTES(""), '$', &number) || rest.len != 53)
        return malformed;
    for (size_t i = 0; i < rest.len; i++)
        if (crypt_value(rest.data[i]) < 0)
            return malformed;
    cost->work = number;
    return number < 4 ? malformed : number > BCRYPT_COST_MAX ? expensive : NULL;
}

/* yescrypt: the parameters that passwd and mkpasswd write, "j", log2 of N, r; each one letter. */
static const char *yescrypt(struct bytes rest, struct cost *cost)
{
    if (rest.len < 4 || rest.data[0] != 'j' || rest.data[3] != '$')
        return malformed;
    int log2 = crypt_value(rest.data[1]) + 1, blocks = crypt_value(rest.data[2]) + 1;
    if (log2 < 1 || log2 > 48 || blocks < 1 || blocks > 48 ||
        !salt_and_digest(bytes_skip(rest, 4), 86, 43))
        return malformed;
    if (log2 > YESCRYPT_LOG2_MAX)
        return expensive;
    cost->memory = ((uint64_t)128 * (uint64_t)blocks) << log2;
    cost->work = cost->memory;
    return cost->memory > PASSWORD_MEMORY_MAX ? expensive : NULL;
}

/* What crypt(3) calls each kind, and which scheme may stand before it beside CRYPT. */
static const char *crypt_hash(enum password_scheme scheme, struct bytes hash, struct cost *cost)
{
    bool any = scheme == PASSWORD_CRYPT;
    cost->memory = sizeof(struct crypt_data);
    if (starts_with(hash, BYTES("$6$")) && (any || scheme == PASSWORD_SHA512_CRYPT))
        return sha_crypt(bytes_skip(hash, 3), 86, cost);
    if (starts_with(hash, BYTES("$5$")) && any)
        return sha_crypt(bytes_skip(hash, 3), 43, cost);
    if (starts_with(hash, BYTES("$y$")) && any)
        return yescrypt(bytes_skip(hash, 3), cost);
    bool blowfish = hash.len > 4 && hash.data[0] == '$' && hash.data[1] == '2' &&
                    (hash.data[2] == 'a' || hash.data[2] == 'b' || hash.data[2] == 'y') &&
                    hash.data[3] == '$';
    if (blowfish && (any || scheme == PASSWORD_BLF_CRYPT))
        return bcrypt(bytes_skip(hash, 4), cost);
    return any ? "{CRYPT} is taken with SHA-256, SHA-512, bcrypt or yescrypt, not with MD5 or DES"
               : malformed;
}

/* An ARGON2ID hash in its parts. */
struct argon {
    uint32_t memory_kib, passes, lanes;
    size_t salt_len, digest_len;
    uint8_t salt[ARGON2_SALT_MAX], digest[ARGON2_DIGEST_MAX];
};

/* take_octets decodes base64 without padding, up to `end` octets of text; 0: none. */
static size_t take_octets(struct bytes text, uint8_t *out, size_t room)
{
    uint8_t padded[ARGON2_DIGEST_MAX * 2];
    size_t len;
    if (text.len == 0 || text.len > room / 3 * 4 || text.len % 4 == 1)
        return 0;
    memcpy(padded, text.data, text.len);
    memset(padded + text.len, '=', 3);
    if (!base64_decode(bytes_make(padded, (text.len + 3) / 4 * 4), padded, &len))
        return 0;
    memcpy(out, padded, len);
    return len;
}

static const char *argon_hash(struct bytes hash, struct argon *out)
{
    const struct bytes start = BYTES("$argon2id$v=19$");
    struct bytes rest = bytes_skip(hash, start.len);
    if (!starts_with(hash, start) || !take_number(&rest, BYTES("m="), ',', &out->memory_kib) ||
        !take_number(&rest, BYTES("t="), ',', &out->passes) ||
        !take_number(&rest, BYTES("p="), '$', &out->lanes))
        return malformed;
    size_t salt = bytes_find(rest, '$');
    out->salt_len = take_octets(bytes_slice(rest, 0, salt), out->salt, sizeof(out->salt));
    out->digest_len = take_octets(bytes_skip(rest, salt + 1), out->digest, sizeof(out->digest));
    if (out->salt_len < 8 || out->digest_len < 16 || out->passes < 1 || out->lanes < 1 ||
        out->memory_kib < 8 * out->lanes)
        return malformed;
    return out->lanes > ARGON2_LANES_MAX || out->passes > ARGON2_PASSES_MAX ||
                   out->memory_kib > PASSWORD_MEMORY_MAX / 1024 ||
                   out->memory_kib > ARGON2_WORK_MAX / out->passes
               ? expensive
               : NULL;
}

/* check tells what is wrong with a hash (constant), and what it costs. NULL: nothing. */
static const char *check(enum password_scheme scheme, struct bytes hash, struct cost *cost)
{
    struct argon argon;
    struct scram_secret secret;
    const char *error;
    *cost = (struct cost){0};
    if (hash.len >= PASSWORD_TEXT_MAX - 32)
        return malformed;
    switch (scheme) {
    case PASSWORD_ARGON2ID:
        error = argon_hash(hash, &argon);
        if (error == NULL)
            *cost = (struct cost){(uint64_t)argon.memory_kib * 128 + argon.passes,
                                  (uint64_t)argon.memory_kib * 1024};
        return error;
    case PASSWORD_SCRAM_SHA_256:
        if (!scram_secret_read(hash, &secret))
            return malformed;
        cost->work = secret.iterations;
        return NULL;
    default: return crypt_hash(scheme, hash, cost);
    }
}

enum password_scheme password_read(struct bytes stored, struct bytes *hash, const char **error)
{
    struct cost cost;
    size_t brace = bytes_find(stored, '}');
    *hash = bytes_skip(stored, stored.len);
    *error = "no scheme: a password is {SCHEME}hash";
    if (stored.len == 0 || stored.data[0] != '{' || brace == stored.len)
        return PASSWORD_UNKNOWN;
    struct bytes name = bytes_slice(stored, 1, brace);
    enum password_scheme scheme = bytes_equal_nocase(name, BYTES("SHA256-CRYPT"))
                                      ? PASSWORD_CRYPT
                                      : password_scheme_find(name);
    *error = "the scheme is none of SHA512-CRYPT, BLF-CRYPT, ARGON2ID, SCRAM-SHA-256, CRYPT, "
             "SHA256-CRYPT";
    if (scheme == PASSWORD_UNKNOWN)
        return PASSWORD_UNKNOWN;
    struct bytes rest = bytes_skip(stored, brace + 1);
    *error = check(scheme, rest, &cost);
    if (*error != NULL)
        return PASSWORD_UNKNOWN;
    *hash = rest;
    return scheme;
}

uint64_t password_memory(enum password_scheme scheme, struct bytes hash)
{
    struct cost cost;
    return check(scheme, hash, &cost) == NULL ? cost.memory : 0;
}

uint64_t password_work(enum password_scheme scheme, struct bytes hash)
{
    struct cost cost;
    return check(scheme, hash, &cost) == NULL ? cost.work : 0;
}

/* --- comparing --- */

/* run_crypt hashes with the parameters in `setting` (a hash will do) and writes the hash to `out`
 * of CRYPT_OUTPUT_SIZE. False: no memory, or nothing that can be hashed. */
static bool run_crypt(struct bytes password, struct bytes setting, char *out)
{
    struct room {
        struct crypt_data data;
        char password[CRYPT_MAX_PASSPHRASE_SIZE];
        char setting[CRYPT_OUTPUT_SIZE];
    };
    struct room *room = password.len < CRYPT_MAX_PASSPHRASE_SIZE && setting.len < CRYPT_OUTPUT_SIZE
                            ? calloc(1, sizeof(*room))
                            : NULL;
    if (room == NULL)
        return false;
    memcpy(room->password, password.data, password.len);
    memcpy(room->setting, setting.data, setting.len);
    const char *hash = crypt_r(room->password, room->setting, &room->data);
    bool done = hash != NULL && hash[0] == '$';
    if (done)
        snprintf(out, CRYPT_OUTPUT_SIZE, "%s", hash);
    crypto_wipe(room, sizeof(*room));
    free(room);
    return done;
}

/* crypt_matches: a password that is too long for crypt(3) is hashed as far as it goes, for the same
 * time as others, and is wrong. */
static bool crypt_matches(struct bytes hash, struct bytes password, bool *failed)
{
    char computed[CRYPT_OUTPUT_SIZE] = "";
    bool whole = password.len < CRYPT_MAX_PASSPHRASE_SIZE;
    *failed = !run_crypt(whole ? password : bytes_slice(password, 0, CRYPT_MAX_PASSPHRASE_SIZE - 1),
                         hash, computed);
    bool equal = whole && !*failed && strlen(computed) == hash.len &&
                 crypto_equal(computed, hash.data, hash.len);
    crypto_wipe(computed, sizeof(computed));
    return equal;
}

/* run_argon computes the digest of `argon` for a password. */
static bool run_argon(const struct argon *argon, struct bytes password, uint8_t *out)
{
    uint8_t text[SASL_PASSWORD_MAX], salt[ARGON2_SALT_MAX];
    if (password.len > sizeof(text))
        return false;
    memcpy(text, password.data, password.len);
    memcpy(salt, argon->salt, argon->salt_len);
    argon2_context context = {
        .out = out,
        .outlen = (uint32_t)argon->digest_len,
        .pwd = text,
        .pwdlen = (uint32_t)password.len,
        .salt = salt,
        .saltlen = (uint32_t)argon->salt_len,
        .t_cost = argon->passes,
        .m_cost = argon->memory_kib,
        .lanes = argon->lanes,
        .threads = 1,
        .version = ARGON2_VERSION_13,
        .flags = ARGON2_FLAG_CLEAR_PASSWORD,
    };
    int result = argon2_ctx(&context, Argon2_id);
    crypto_wipe(text, sizeof(text));
    return result == ARGON2_OK;
}

static bool argon_matches(struct bytes hash, struct bytes password, bool *failed)
{
    struct argon argon;
    uint8_t digest[ARGON2_DIGEST_MAX];
    if (argon_hash(hash, &argon) != NULL)
        return false;
    *failed = !run_argon(&argon, password, digest);
    bool equal = !*failed && crypto_equal(digest, argon.digest, argon.digest_len);
    crypto_wipe(digest, sizeof(digest));
    return equal;
}

bool password_matches(enum password_scheme scheme, struct bytes hash, struct bytes password,
                      bool *failed)
{
    struct scram_secret secret;
    bool unused;
    failed = failed == NULL ? &unused : failed;
    *failed = false;
    switch (scheme) {
    case PASSWORD_UNKNOWN:
    case PASSWORD_SCHEME_COUNT: return false;
    case PASSWORD_ARGON2ID: return argon_matches(hash, password, failed);
    case PASSWORD_SCRAM_SHA_256:
        return scram_secret_read(hash, &secret) && scram_secret_matches(&secret, password, failed);
    default: return crypt_matches(hash, password, failed);
    }
}

/* --- making --- */

static bool make_crypt(const char *prefix, unsigned long cost, struct bytes password, char *out)
{
    char salt[16], setting[CRYPT_GENSALT_OUTPUT_SIZE];
    crypto_random(salt, sizeof(salt));
    return crypt_gensalt_rn(prefix, cost, salt, sizeof(salt), setting, sizeof(setting)) != NULL &&
           run_crypt(password, bytes_of_string(setting), out);
}

/* encode writes base64 without padding, and a NUL. */
static const char *encode(const uint8_t *data, size_t len, char *out)
{
    size_t written = base64_encode(bytes_make(data, len), out);
    while (written > 0 && out[written - 1] == '=')
        written--;
    out[written] = '\0';
    return out;
}

static bool make_argon(struct bytes password, char *out, size_t size)
{
    char salt[ARGON2_SALT_MAX * 2], digest[ARGON2_DIGEST_MAX * 2];
    struct argon argon = {
        .memory_kib = ARGON2_MEMORY_KIB,
        .passes = ARGON2_PASSES,
        .lanes = 1,
        .salt_len = ARGON2_SALT,
        .digest_len = ARGON2_DIGEST,
    };
    crypto_random(argon.salt, argon.salt_len);
    if (!run_argon(&argon, password, argon.digest))
        return false;
    snprintf(out, size, "$argon2id$v=19$m=%u,t=%u,p=%u$%s$%s", argon.memory_kib, argon.passes,
             argon.lanes, encode(argon.salt, argon.salt_len, salt),
             encode(argon.digest, argon.digest_len, digest));
    return true;
}

static bool make_scram(struct bytes password, char *out, size_t size)
{
    struct scram_secret secret;
    bool done = scram_secret_make(password, ITERATIONS, &secret) &&
                scram_secret_write(&secret, out, size) > 0;
    crypto_wipe(&secret, sizeof(secret));
    return done;
}

bool password_make(enum password_scheme scheme, struct bytes password, char *out)
{
    int head = snprintf(out, PASSWORD_TEXT_MAX, "{%s}", password_scheme_name(scheme));
    char *hash = out + head;
    if (password.len == 0 || password.len > SASL_PASSWORD_MAX ||
        bytes_find(password, 0) != password.len)
        return false;
    switch (scheme) {
    case PASSWORD_SHA512_CRYPT: return make_crypt("$6$", ROUNDS, password, hash);
    case PASSWORD_BLF_CRYPT: return make_crypt("$2y$", BCRYPT_COST, password, hash);
    case PASSWORD_CRYPT: return make_crypt("$y$", 0, password, hash);
    case PASSWORD_ARGON2ID: return make_argon(password, hash, (size_t)(PASSWORD_TEXT_MAX - head));
    case PASSWORD_SCRAM_SHA_256:
        return make_scram(password, hash, (size_t)(PASSWORD_TEXT_MAX - head));
    default: return false;
    }
}
