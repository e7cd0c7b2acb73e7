/* Why a handshake or a connection failed: BoringSSL's reasons are made into the few that tls.h has,
 * coarse enough to count, with a text for the log. */
#include "tls/inside.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <string.h>

void tls_fail(struct tls *tls, enum tls_failure failure, uint8_t alert, const char *text)
{
    if (tls->failure != TLS_FAILURE_NONE)
        return; /* the first reason is the one that counts */
    tls->failure = (uint8_t)failure;
    tls->failure_text = text;
    tls->alert = alert;
}

const char *tls_alert_text(uint8_t description)
{
    return SSL_alert_desc_string_long(description);
}

/* clear_alert finds the alert at the end of what was read, if it stands there in clear: a client of
 * TLS 1.3 that dislikes our certificate has no keys yet, while BoringSSL waits for an encrypted
 * record. Returns its description, or -1. */
static int clear_alert(const struct tls_io *io)
{
    static const uint8_t header[] = {RECORD_ALERT, 3};
    enum { ALERT_RECORD_LEN = TLS_HEADER_LEN + 2 };
    if (io->in_taken < ALERT_RECORD_LEN)
        return -1;
    const uint8_t *record = io->in + io->in_taken - ALERT_RECORD_LEN;
    bool is_alert = memcmp(record, header, sizeof(header)) == 0 && record[3] == 0 && record[4] == 2;
    return is_alert ? record[6] : -1;
}

static enum tls_failure failure_of_ssl(int reason)
{
    if (reason >= SSL_AD_REASON_OFFSET)
        return TLS_FAILURE_ALERT;
    switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER: return TLS_FAILURE_NOT_TLS;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION: return TLS_FAILURE_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUP:
    case SSL_R_UNKNOWN_CIPHER_RETURNED:
    case SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS: return TLS_FAILURE_CIPHER;
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return TLS_FAILURE_CERTIFICATE;
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: return TLS_FAILURE_RECORD;
    case SSL_R_PRIVATE_KEY_OPERATION_FAILED:
    case ERR_R_INTERNAL_ERROR:
    case ERR_R_MALLOC_FAILURE: return TLS_FAILURE_INTERNAL;
    default: return TLS_FAILURE_PROTOCOL;
    }
}

static enum tls_failure failure_of(uint32_t error)
{
    switch (ERR_GET_LIB(error)) {
    case ERR_LIB_SSL: return failure_of_ssl(ERR_GET_REASON(error));
    case ERR_LIB_X509: return TLS_FAILURE_CERTIFICATE;
    case ERR_LIB_CIPHER: return TLS_FAILURE_RECORD; /* EVP_AEAD's: not authentic */
    default: return TLS_FAILURE_PROTOCOL;
    }
}

void tls_handshake_failed(struct tls *tls, const struct tls_io *io)
{
    uint32_t error = ERR_peek_error();
    enum tls_failure failure = failure_of(error);
    const char *text = ERR_reason_error_string(error);
    long verified = tls->context->verify ? SSL_get_verify_result(tls->ssl) : X509_V_OK;
    int alert = clear_alert(io);
    if (alert >= 0) {
        failure = TLS_FAILURE_ALERT;
        text = tls_alert_text((uint8_t)alert);
    } else if (tls->handshake->alpn_refused) {
        failure = TLS_FAILURE_ALPN;
    } else if (failure == TLS_FAILURE_CERTIFICATE && verified != X509_V_OK) {
        text = X509_verify_cert_error_string(verified);
    }
    tls_fail(tls, failure, 0, error == 0 || text == NULL ? "handshake failed" : text);
    tls->silent = failure == TLS_FAILURE_ALERT;
    ERR_clear_error();
}

enum tls_failure tls_failure(const struct tls *tls)
{
    return (enum tls_failure)tls->failure;
}

const char *tls_failure_text(const struct tls *tls)
{
    return tls->failure_text == NULL ? "" : tls->failure_text;
}

const char *tls_failure_name(enum tls_failure failure)
{
    static const char *const names[TLS_FAILURE_COUNT] = {
        [TLS_FAILURE_NONE] = "none",
        [TLS_FAILURE_NOT_TLS] = "not_tls",
        [TLS_FAILURE_VERSION] = "version",
        [TLS_FAILURE_CIPHER] = "cipher",
        [TLS_FAILURE_ALPN] = "alpn",
        [TLS_FAILURE_ALERT] = "alert",
        [TLS_FAILURE_CERTIFICATE] = "certificate",
        [TLS_FAILURE_RECORD] = "record",
        [TLS_FAILURE_PROTOCOL] = "protocol",
        [TLS_FAILURE_INTERNAL] = "internal",
    };
    return failure < TLS_FAILURE_COUNT ? names[failure] : "?";
}
