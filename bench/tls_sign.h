/* What an RSA signature costs by itself: the measure for signing mail. */
#ifndef BENCH_TLS_SIGN_H
#define BENCH_TLS_SIGN_H

/* tls_sign_seconds makes RSA-2048 signatures (PKCS #1 v1.5 of a SHA-256 digest) with BoringSSL
 * alone for so long, and returns the CPU time of one: the median of batches. */
double tls_sign_seconds(double seconds);

#endif
