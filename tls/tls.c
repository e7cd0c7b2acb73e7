/* A connection after its handshake: see tls.h. Records come and go through tls/record; what little
 * is left of the protocol (alerts, KeyUpdate) is decided here. The handshake is in handshake.c. */
#include "tls/tls.h"

#include "tls/inside.h"

#include <stdlib.h>
#include <string.h>

enum {
    RUN_MAX = 32,     /* records in a row that bring nothing, KeyUpdates in a row */
    WARNINGS_MAX = 4, /* in a row */
    ALERT_LEN = 2,
    ALERT_WARNING = 1,
    ALERT_FATAL = 2,
    ALERT_CLOSE_NOTIFY = 0, /* descriptions: RFC 8446 6 */
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_PROTOCOL_VERSION = 70,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_USER_CANCELED = 90,
    ALERT_NO_RENEGOTIATION = 100,
    HANDSHAKE_NEW_SESSION_TICKET = 4,
    HANDSHAKE_KEY_UPDATE = 24,
    KEY_UPDATE_LEN = 5,
};

/* After so many records an AES-GCM key is changed (RFC 8446 5.5 allows 2^24.5). */
static const uint64_t records_max = UINT64_C(1) << 24;

static enum tls_opened broken(struct tls *tls, enum tls_failure failure, uint8_t alert,
                              const char *text)
{
    tls_fail(tls, failure, alert, text);
    return TLS_BROKEN;
}

static enum tls_opened unexpected(struct tls *tls, const char *text)
{
    return broken(tls, TLS_FAILURE_PROTOCOL, ALERT_UNEXPECTED_MESSAGE, text);
}

/* --- opening --- */

size_t tls_record_len(const uint8_t *data, size_t len)
{
    if (len < TLS_HEADER_LEN || data[1] != 3)
        return 0;
    size_t whole = TLS_HEADER_LEN + ((size_t)data[3] << 8 | data[4]);
    return whole <= TLS_RECORD_MAX ? whole : 0;
}

static enum tls_opened alert_came(struct tls *tls, const uint8_t *text, size_t len)
{
    if (len != ALERT_LEN)
        return unexpected(tls, "malformed alert");
    bool harmless = tls->read.modern ? text[1] == ALERT_USER_CANCELED : text[0] == ALERT_WARNING;
    if (text[1] == ALERT_CLOSE_NOTIFY)
        return TLS_CLOSED;
    if (harmless && ++tls->warning_run <= WARNINGS_MAX)
        return TLS_NOTHING;
    if (harmless)
        return unexpected(tls, "too many warning alerts");
    tls->silent = true; /* a fatal alert is not answered */
    return broken(tls, TLS_FAILURE_ALERT, 0, tls_alert_text(text[1]));
}

/* handshake_came: only KeyUpdate, and to a client tickets, may come now. */
static enum tls_opened handshake_came(struct tls *tls, const uint8_t *text, size_t len)
{
    if (!tls->read.modern)
        return broken(tls, TLS_FAILURE_PROTOCOL, ALERT_NO_RENEGOTIATION, "renegotiation");
    if (!tls->server && len > 0 && text[0] == HANDSHAKE_NEW_SESSION_TICKET)
        return TLS_NOTHING;
    static const uint8_t update[KEY_UPDATE_LEN - 1] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1};
    if (len != KEY_UPDATE_LEN || memcmp(text, update, sizeof(update)) != 0 || text[4] > 1)
        return unexpected(tls, "unexpected handshake message");
    if (++tls->update_run > RUN_MAX)
        return unexpected(tls, "too many key updates");
    tls->update_owed |= text[4] == 1;
    if (!record_update(&tls->read))
        return broken(tls, TLS_FAILURE_INTERNAL, ALERT_INTERNAL_ERROR, "key update failed");
    return TLS_NOTHING;
}

static enum tls_opened text_came(struct tls *tls, size_t len)
{
    if (len == 0)
        return ++tls->empty_run <= RUN_MAX ? TLS_NOTHING
                                           : unexpected(tls, "too many empty records");
    tls->empty_run = tls->update_run = tls->warning_run = 0;
    return TLS_TEXT;
}

static enum tls_opened not_opened(struct tls *tls, enum record_result result)
{
    switch (result) {
    case RECORD_BAD_MAC:
        return broken(tls, TLS_FAILURE_RECORD, ALERT_BAD_RECORD_MAC, "record is not authentic");
    case RECORD_OVERFLOW:
        return broken(tls, TLS_FAILURE_PROTOCOL, ALERT_RECORD_OVERFLOW, "record is too long");
    case RECORD_UNEXPECTED:
    case RECORD_OK: break;
    }
    return unexpected(tls, "unexpected record");
}

enum tls_opened tls_open(struct tls *tls, uint8_t *record, size_t len, uint8_t **text,
                         size_t *text_len)
{
    if (tls->failure != TLS_FAILURE_NONE)
        return TLS_BROKEN;
    if (len < TLS_HEADER_LEN || tls_record_len(record, len) != len)
        return broken(tls, TLS_FAILURE_PROTOCOL, ALERT_RECORD_OVERFLOW, "no valid record");
    if (tls->ssl != NULL)
        return tls_open_first(tls, record, len, text, text_len);
    enum record_type type;
    enum record_result result = record_open(&tls->read, record, len, &type, text, text_len);
    if (result != RECORD_OK)
        return not_opened(tls, result);
    switch (type) {
    case RECORD_DATA: return text_came(tls, *text_len);
    case RECORD_ALERT: return alert_came(tls, *text, *text_len);
    case RECORD_HANDSHAKE: return handshake_came(tls, *text, *text_len);
    case RECORD_CHANGE_CIPHER_SPEC: break;
    }
    return unexpected(tls, "unexpected content type");
}

/* --- sealing --- */

size_t tls_front(const struct tls *tls)
{
    return record_front(&tls->write);
}

size_t tls_seal(struct tls *tls, uint8_t *record, const uint8_t *text, size_t len)
{
    return record_seal(&tls->write, RECORD_DATA, record, text, len);
}

/* update_keys tells the peer that our next record has new keys (RFC 8446 4.6.3). */
static size_t update_keys(struct tls *tls, uint8_t *out)
{
    static const uint8_t message[KEY_UPDATE_LEN] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1, 0};
    tls->update_owed = false;
    size_t len = record_seal(&tls->write, RECORD_HANDSHAKE, out, message, sizeof(message));
    if (len == 0 || !record_update(&tls->write)) {
        tls->write.sequence = UINT64_MAX; /* nothing can be sealed any more */
        return 0;
    }
    return len;
}

size_t tls_prelude(struct tls *tls, uint8_t *out)
{
    size_t len = 0;
    if (tls->prelude != NULL) {
        len = tls->prelude_len;
        memcpy(out, tls->prelude, len);
        free(tls->prelude);
        tls->prelude = NULL;
    }
    if (tls->update_owed || (tls->write.modern && tls->write.sequence >= records_max))
        len += update_keys(tls, out + len);
    return len;
}

size_t tls_alert(struct tls *tls, uint8_t *out)
{
    if (tls->silent || !tls->ready)
        return 0;
    bool fatal = tls->alert != ALERT_CLOSE_NOTIFY;
    uint8_t alert[ALERT_LEN] = {fatal ? ALERT_FATAL : ALERT_WARNING, tls->alert};
    return record_seal(&tls->write, RECORD_ALERT, out, alert, sizeof(alert));
}

/* --- what became of it --- */

const struct tls_info *tls_info(const struct tls *tls)
{
    return &tls->info;
}

const uint8_t *tls_exporter(const struct tls *tls)
{
    return tls->exporter;
}

size_t tls_memory(const struct tls *tls)
{
    size_t names = 0;
    if (tls->names != NULL)
        names = strlen(tls->info.server_name) + strlen(tls->info.peer_name) + 2;
    return sizeof(*tls) + names + (tls->prelude != NULL ? tls->prelude_len : 0) +
           (tls->exporter != NULL ? TLS_EXPORTER_LEN : 0);
}
