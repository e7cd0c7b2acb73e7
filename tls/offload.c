/* Jobs: see offload.h. A job belongs to its connection while it is wanted and when it is done, and
 * to its taker in between. `state` is of the connection's thread; whoever runs the job touches the
 * result only. */
#include "tls/offload.h"

#include "tls/inside.h"

#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <stdlib.h>
#include <string.h>

enum {
    INPUT_LEN_MAX = 4096,    /* a few hundred octets in fact: hellos and parameters, or a hash */
    SALT_LEN_OF_DIGEST = -1, /* as EVP_PKEY_CTX_set_rsa_pss_saltlen knows it */
};

enum job_state { JOB_WANTED = 0, JOB_OUT, JOB_DONE };

struct tls_job {
    enum job_state state;
    uint16_t algorithm; /* SSL_SIGN_... */
    EVP_PKEY *key;      /* a reference */
    size_t input_len;
    size_t signature_max;
    size_t signature_len; /* the result; 0: it failed */
    uint8_t octets[];     /* the input, then room for the signature */
};

static void free_job(struct tls_job *job)
{
    EVP_PKEY_free(job->key);
    free(job);
}

/* --- what BoringSSL calls --- */

static enum ssl_private_key_result_t sign(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out,
                                          uint16_t algorithm, const uint8_t *in, size_t in_len)
{
    (void)out;
    (void)out_len;
    struct tls *tls = tls_of(ssl);
    if (tls->job != NULL || tls->handshake->certificate == NULL || in_len > INPUT_LEN_MAX)
        return ssl_private_key_failure;
    EVP_PKEY *key = certificate_key(tls->handshake->certificate);
    if (SSL_get_signature_algorithm_key_type(algorithm) != EVP_PKEY_id(key))
        return ssl_private_key_failure;
    size_t signature_max = (size_t)EVP_PKEY_size(key);
    if (signature_max > max_out)
        return ssl_private_key_failure;
    struct tls_job *job = malloc(sizeof(*job) + in_len + signature_max);
    if (job == NULL)
        return ssl_private_key_failure;
    *job = (struct tls_job){
        .algorithm = algorithm,
        .key = key,
        .input_len = in_len,
        .signature_max = signature_max,
    };
    EVP_PKEY_up_ref(key);
    memcpy(job->octets, in, in_len);
    tls->job = job;
    return ssl_private_key_retry;
}

static enum ssl_private_key_result_t decrypt(SSL *ssl, uint8_t *out, size_t *out_len,
                                             size_t max_out, const uint8_t *in, size_t in_len)
{
    (void)ssl;
    (void)out;
    (void)out_len;
    (void)max_out;
    (void)in;
    (void)in_len;
    return ssl_private_key_failure; /* RSA key exchange: no cipher of ours has it */
}

static enum ssl_private_key_result_t complete(SSL *ssl, uint8_t *out, size_t *out_len,
                                              size_t max_out)
{
    struct tls *tls = tls_of(ssl);
    struct tls_job *job = tls->job;
    if (job == NULL)
        return ssl_private_key_failure;
    if (job->state != JOB_DONE)
        return ssl_private_key_retry;
    enum ssl_private_key_result_t result = ssl_private_key_failure;
    if (job->signature_len > 0 && job->signature_len <= max_out) {
        memcpy(out, job->octets + job->input_len, job->signature_len);
        *out_len = job->signature_len;
        result = ssl_private_key_success;
    }
    tls->job = NULL;
    free_job(job);
    return result;
}

const SSL_PRIVATE_KEY_METHOD offload_method = {
    .sign = sign,
    .decrypt = decrypt,
    .complete = complete,
};

void offload_forget(struct tls *tls)
{
    if (tls->job != NULL && tls->job->state != JOB_OUT)
        free_job(tls->job);
    tls->job = NULL;
}

/* --- a job's way --- */

struct tls_job *tls_job_take(struct tls *tls)
{
    if (tls->job == NULL || tls->job->state != JOB_WANTED)
        return NULL;
    tls->job->state = JOB_OUT;
    return tls->job;
}

static bool make_signature(struct tls_job *job, EVP_MD_CTX *digest)
{
    EVP_PKEY_CTX *options; /* owned by `digest` */
    const EVP_MD *kind = SSL_get_signature_algorithm_digest(job->algorithm);
    if (kind == NULL || EVP_DigestSignInit(digest, &options, kind, NULL, job->key) != 1)
        return false;
    /* RFC 8446 4.2.3: the salt is as long as the digest. PKCS #1 v1.5 is EVP's default. */
    if (SSL_is_signature_algorithm_rsa_pss(job->algorithm) &&
        (EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) != 1 ||
         EVP_PKEY_CTX_set_rsa_pss_saltlen(options, SALT_LEN_OF_DIGEST) != 1))
        return false;
    size_t len = job->signature_max;
    if (EVP_DigestSign(digest, job->octets + job->input_len, &len, job->octets, job->input_len) !=
        1)
        return false;
    job->signature_len = len;
    return true;
}

void tls_job_run(struct tls_job *job)
{
    EVP_MD_CTX digest;
    EVP_MD_CTX_init(&digest);
    if (!make_signature(job, &digest))
        ERR_clear_error(); /* of this thread; complete() tells BoringSSL */
    EVP_MD_CTX_cleanup(&digest);
}

void tls_job_done(struct tls_job *job, struct tls *tls)
{
    if (tls != NULL && tls->job == job)
        job->state = JOB_DONE; /* complete() frees it */
    else
        free_job(job);
}
