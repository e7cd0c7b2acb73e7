/* Private-key operations for another thread: BoringSSL asks for a signature, we make a job of it,
 * and its handshake stands still until the job comes back (tls_job_take, tls_job_run, tls_job_done
 * of tls/tls.h). A job has a copy of all it needs; the connection may end meanwhile. */
#ifndef TLS_OFFLOAD_H
#define TLS_OFFLOAD_H

#include <openssl/ssl.h>

struct tls;

/* offload_method signs with the key of tls->handshake->certificate. The handshake returns
 * SSL_ERROR_WANT_PRIVATE_KEY_OPERATION until the job is done. RSA key exchange is not supported. */
extern const SSL_PRIVATE_KEY_METHOD offload_method;

/* offload_forget lets go of the job when the connection ends; one that is under way belongs to its
 * taker and lives on. */
void offload_forget(struct tls *tls);

#endif
