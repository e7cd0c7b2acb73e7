/* Fuzzes the records of a connection whose keys both sides know. The first octet chooses the cipher
 * and the side that we are; the second whether the rest is what came from the network (nothing of
 * which can be authentic), or a script: records that the harness seals as a peer with the keys
 * could, damages, repeats and leaves out. A small model of docs/tls.md says what tls_open must
 * answer to each. What we seal, the peer opens. */
#include "tls/inside.h"

#include "gateway/base/check.h"
#include "tests/support/forge.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECORD_ROOM = TLS_RECORD_MAX + 64, STEPS_MAX = 400, RUN_MAX = 32, WARNINGS_MAX = 4 };

struct input {
    const uint8_t *data;
    size_t len;
};

/* A record on its way to us. */
struct parcel {
    uint8_t data[RECORD_ROOM];
    size_t len;
    uint8_t sealed[RECORD_ROOM]; /* as it was before it was damaged */
    size_t sealed_len;
    uint64_t number; /* it is the peer's so manieth; 0: not authentic */
    bool valid;      /* its inside is well-formed */
    uint8_t type;    /* what is inside */
    uint8_t text[FORGE_ROOM];
    size_t text_len;
};

/* The connection, its peer, and what the model knows. */
struct play {
    struct tls *tls;
    struct record peer_read, peer_write;
    int empty_run, update_run, warning_run;
    bool update_owed;        /* we owe an answer to KeyUpdate */
    bool astray;             /* the peer has changed its keys without a word */
    uint64_t sealed, opened; /* records */
    bool over;               /* nothing more can be opened */
    bool closed;             /* and nobody would try */
    bool silent;             /* the peer's alert ended it */
    struct parcel parcel;
};

static uint8_t next_octet(struct input *input)
{
    if (input->len == 0)
        return 0;
    input->len--;
    return *input->data++;
}

static struct input next_octets(struct input *input, size_t len)
{
    struct input part = {input->data, len < input->len ? len : input->len};
    input->data += part.len;
    input->len -= part.len;
    return part;
}

/* --- a connection with known keys, as after a handshake --- */

static void start_record(struct record *record, unsigned cipher, const char *key)
{
    const EVP_AEAD *const algorithms[] = {EVP_aead_aes_128_gcm(), EVP_aead_aes_256_gcm(),
                                          EVP_aead_chacha20_poly1305()};
    uint8_t secret[RECORD_SECRET_MAX] = {0};
    memcpy(secret, key, strlen(key));
    const EVP_AEAD *algorithm = algorithms[cipher % 3];
    const EVP_MD *digest = cipher % 3 == 1 ? EVP_sha384() : EVP_sha256();
    if (cipher < 3)
        CHECK(record_start_modern(record, algorithm, digest, secret, EVP_MD_size(digest), 0));
    else
        CHECK(record_start(record, algorithm, secret, secret + 32, cipher == 5 ? 12 : 4, 1));
}

/* The network does not know the key. libFuzzer may, from a script: it looks at what is compared. */
static void play_begin(struct play *play, uint8_t choice, bool network)
{
    unsigned cipher = choice % 6;
    memset(play, 0, sizeof(*play));
    play->tls = calloc(1, sizeof(*play->tls));
    CHECK(play->tls != NULL);
    play->tls->server = (choice & 128) == 0;
    play->tls->ready = true;
    start_record(&play->tls->read, cipher, network ? "secret" : "theirs");
    start_record(&play->tls->write, cipher, "ours");
    start_record(&play->peer_write, cipher, "theirs");
    start_record(&play->peer_read, cipher, "ours");
}

static void play_end(struct play *play)
{
    record_end(&play->peer_read);
    record_end(&play->peer_write);
    tls_free(play->tls);
}

/* --- the model --- */

static enum tls_opened want_alert(struct play *play, const uint8_t *text, size_t len)
{
    if (len != 2)
        return TLS_BROKEN;
    bool harmless = play->tls->read.modern ? text[1] == 90 : text[0] == 1;
    if (text[1] == 0)
        return TLS_CLOSED;
    return harmless && ++play->warning_run <= WARNINGS_MAX ? TLS_NOTHING : TLS_BROKEN;
}

static enum tls_opened want_handshake(struct play *play, const uint8_t *text, size_t len)
{
    const uint8_t update[] = {24, 0, 0, 1};
    if (!play->tls->read.modern)
        return TLS_BROKEN;
    if (!play->tls->server && len > 0 && text[0] == 4)
        return TLS_NOTHING;
    if (len != 5 || memcmp(text, update, 4) != 0 || text[4] > 1 || ++play->update_run > RUN_MAX)
        return TLS_BROKEN;
    play->update_owed |= text[4] == 1;
    return TLS_NOTHING;
}

/* Is it the record that comes next, and undamaged? */
static bool is_next(const struct play *play)
{
    const struct parcel *parcel = &play->parcel;
    return parcel->number == play->opened + 1 && parcel->len == parcel->sealed_len &&
           memcmp(parcel->data, parcel->sealed, parcel->len) == 0;
}

static enum tls_opened want(struct play *play)
{
    const struct parcel *parcel = &play->parcel;
    if (play->over || !is_next(play) || !parcel->valid)
        return TLS_BROKEN;
    if (parcel->type == RECORD_ALERT) {
        enum tls_opened wanted = want_alert(play, parcel->text, parcel->text_len);
        play->silent =
            wanted == TLS_BROKEN && parcel->text_len == 2 && play->warning_run <= WARNINGS_MAX;
        return wanted;
    }
    if (parcel->type == RECORD_HANDSHAKE)
        return want_handshake(play, parcel->text, parcel->text_len);
    if (parcel->type != RECORD_DATA)
        return TLS_BROKEN;
    if (parcel->text_len == 0)
        return ++play->empty_run <= RUN_MAX ? TLS_NOTHING : TLS_BROKEN;
    play->empty_run = play->update_run = play->warning_run = 0;
    return TLS_TEXT;
}

/* --- what the peer does --- */

/* look_inside finds the type before the padding (RFC 8446 5.4). */
static void look_inside(struct parcel *parcel, bool modern, uint8_t outer, size_t inner_len)
{
    parcel->type = outer;
    parcel->text_len = inner_len;
    parcel->valid = inner_len <= TLS_TEXT_MAX;
    if (!modern)
        return;
    parcel->valid = outer == RECORD_DATA && inner_len <= TLS_TEXT_MAX + 1;
    while (parcel->text_len > 0 && parcel->text[parcel->text_len - 1] == 0)
        parcel->text_len--;
    if (parcel->text_len == 0)
        parcel->valid = false;
    else
        parcel->type = parcel->text[--parcel->text_len];
}

static bool is_update(const struct play *play)
{
    const struct parcel *parcel = &play->parcel;
    const uint8_t update[] = {24, 0, 0, 1};
    return parcel->valid && parcel->type == RECORD_HANDSHAKE && parcel->text_len == 5 &&
           memcmp(parcel->text, update, 4) == 0 && parcel->text[4] <= 1;
}

/* seal makes the peer's next record around octets of the input, padded in TLS 1.3. */
static void seal(struct play *play, uint8_t outer, uint8_t type, struct input text, size_t zeros)
{
    static uint8_t sealed[FORGE_ROOM];
    struct parcel *parcel = &play->parcel;
    bool modern = play->peer_write.modern;
    size_t len = text.len;
    if (len > 0)
        memcpy(parcel->text, text.data, len);
    if (modern)
        parcel->text[len++] = type;
    memset(parcel->text + len, 0, zeros);
    len += zeros;
    look_inside(parcel, modern, modern ? outer : type, len);
    size_t sealed_len = forge_record(&play->peer_write, modern ? outer : type, parcel->text, len,
                                     UINT64_C(0x0123456789abcdef) + zeros, sealed);
    play->peer_write.sequence++;
    if (sealed_len > TLS_RECORD_MAX)
        sealed_len = TLS_RECORD_MAX + 1, parcel->valid = false;
    memcpy(parcel->data, sealed, sealed_len);
    memcpy(parcel->sealed, sealed, sealed_len);
    parcel->len = parcel->sealed_len = sealed_len;
    play->sealed++;
    parcel->number = play->astray ? 0 : play->sealed;
    if (modern && is_update(play))
        CHECK(record_update(&play->peer_write));
}

/* deliver hands the record to us, in memory of its own size for the address sanitizer. */
static void deliver(struct play *play)
{
    struct parcel *parcel = &play->parcel;
    uint8_t *record = malloc(parcel->len), *text = NULL;
    size_t text_len = 0;
    CHECK(record != NULL);
    memcpy(record, parcel->data, parcel->len);
    enum tls_opened wanted = want(play);
    enum tls_opened opened = tls_open(play->tls, record, parcel->len, &text, &text_len);
    CHECK(opened == wanted);
    play->opened += opened != TLS_BROKEN; /* so twice is once too often */
    if (opened == TLS_TEXT)
        CHECK(text_len == parcel->text_len && text >= record &&
              text + text_len <= record + parcel->len && memcmp(text, parcel->text, text_len) == 0);
    if (opened == TLS_BROKEN)
        CHECK(tls_failure(play->tls) != TLS_FAILURE_NONE && tls_failure_text(play->tls)[0] != 0);
    else
        CHECK(tls_failure(play->tls) == TLS_FAILURE_NONE);
    play->over = play->over || opened == TLS_BROKEN;
    play->closed = opened == TLS_CLOSED;
    free(record);
}

static void damage(struct play *play, struct input *input)
{
    struct parcel *parcel = &play->parcel;
    size_t at = (size_t)next_octet(input) << 8 | next_octet(input);
    uint8_t bits = next_octet(input);
    if (parcel->len == 0 || bits == 0)
        return;
    parcel->data[at % parcel->len] ^= bits;
}

static void cut(struct play *play, struct input *input)
{
    struct parcel *parcel = &play->parcel;
    size_t len = parcel->len - next_octet(input) % 64;
    if (parcel->len < 64 + TLS_HEADER_LEN || len == parcel->len)
        return;
    parcel->len = len;
    forge_set_length(parcel->data, len);
}

/* --- what we do --- */

/* The peer opens one record of ours. */
static size_t open_ours(struct play *play, uint8_t *record, enum record_type type,
                        const uint8_t *want_text, size_t want_len)
{
    size_t len = tls_record_len(record, TLS_HEADER_LEN), text_len;
    enum record_type got;
    uint8_t *text;
    CHECK(len > 0);
    CHECK(record_open(&play->peer_read, record, len, &got, &text, &text_len) == RECORD_OK);
    CHECK(got == type && text_len == want_len && memcmp(text, want_text, text_len) == 0);
    return len;
}

static void send_text(struct play *play, size_t len)
{
    static uint8_t text[TLS_TEXT_MAX], out[RECORD_ROOM];
    len = len < TLS_TEXT_MAX ? len : TLS_TEXT_MAX;
    if (play->over || len == 0)
        return;
    uint8_t prelude[TLS_PRELUDE_MAX];
    size_t prelude_len = tls_prelude(play->tls, prelude);
    CHECK((prelude_len > 0) == play->update_owed);
    if (play->update_owed) {
        const uint8_t update[] = {24, 0, 0, 1, 0};
        CHECK(open_ours(play, prelude, RECORD_HANDSHAKE, update, 5) == prelude_len);
        CHECK(record_update(&play->peer_read));
        play->update_owed = false;
    }
    memset(text, (int)len, len);
    size_t front = tls_front(play->tls), whole = tls_seal(play->tls, out, text, len);
    CHECK(whole > len && whole <= len + TLS_FRONT_MAX + TLS_BACK_MAX && front <= TLS_FRONT_MAX);
    CHECK(open_ours(play, out, RECORD_DATA, text, len) == whole);
}

static void say_last_word(struct play *play)
{
    uint8_t out[TLS_ALERT_MAX];
    size_t len = tls_alert(play->tls, out), text_len;
    enum record_type type;
    uint8_t *text;
    CHECK((len == 0) == play->silent);
    if (len == 0)
        return;
    CHECK(tls_record_len(out, len) == len);
    CHECK(record_open(&play->peer_read, out, len, &type, &text, &text_len) == RECORD_OK);
    CHECK(type == RECORD_ALERT && text_len == 2);
    bool broken = tls_failure(play->tls) != TLS_FAILURE_NONE;
    CHECK(text[0] == (broken ? 2 : 1) && (text[1] != 0) == broken);
}

/* --- the two kinds of input --- */

static void play_script(struct play *play, struct input *input)
{
    for (int step = 0; step < STEPS_MAX && input->len > 0 && !play->closed; step++) {
        uint8_t order = next_octet(input), number = next_octet(input);
        size_t len = number < 240 ? number : (size_t)(number - 239) * 1040;
        const uint8_t update[] = {24, 0, 0, 1, number & 1}, alert[] = {1 + (number & 1), number};
        switch (order % 16) {
        case 0: seal(play, RECORD_DATA, RECORD_DATA, next_octets(input, len), 0); break;
        case 1: seal(play, RECORD_DATA, RECORD_DATA, (struct input){NULL, 0}, 0); break;
        case 2: seal(play, RECORD_DATA, RECORD_DATA, next_octets(input, 3), len); break;
        case 3: seal(play, RECORD_DATA, RECORD_HANDSHAKE, (struct input){update, 5}, 0); break;
        case 4: seal(play, RECORD_DATA, RECORD_HANDSHAKE, next_octets(input, len), 0); break;
        case 5: seal(play, RECORD_DATA, RECORD_ALERT, (struct input){alert, 2}, 0); break;
        case 6: seal(play, RECORD_DATA, RECORD_ALERT, next_octets(input, len % 8), len % 3); break;
        case 7: seal(play, RECORD_DATA, number, next_octets(input, 5), 0); break;
        case 8: seal(play, number, RECORD_DATA, next_octets(input, 5), 0); break;
        case 9: damage(play, input); break;
        case 10: cut(play, input); break;
        case 11: play->astray |= play->peer_write.modern && record_update(&play->peer_write); break;
        case 12: send_text(play, len); continue;
        case 13: continue; /* the record stays, and comes again */
        default: break;
        }
        if (order < 224 && play->parcel.len > 0)
            deliver(play); /* else it is lost, unless it comes again */
    }
}

static void play_network(struct play *play, struct input *input)
{
    for (int step = 0; step < 4 && input->len >= TLS_HEADER_LEN; step++) {
        size_t len = tls_record_len(input->data, input->len);
        struct input part = next_octets(input, len == 0 ? input->len : len);
        if (len == 0)
            part.len = part.len < RECORD_ROOM ? part.len : RECORD_ROOM;
        memcpy(play->parcel.data, part.data, part.len);
        play->parcel.len = part.len;
        deliver(play);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play play;
    struct input input = {data, size};
    if (size > FORGE_ROOM / 2)
        return 0;
    uint8_t choice = next_octet(&input);
    bool network = next_octet(&input) % 8 == 7;
    play_begin(&play, choice, network);
    if (network)
        play_network(&play, &input);
    else
        play_script(&play, &input);
    say_last_word(&play);
    play_end(&play);
    return 0;
}
