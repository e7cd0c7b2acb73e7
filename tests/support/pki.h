/* Certificates and keys for tests, made on the spot as PEM files: of any kind, for any names, valid
 * when it suits, signed by themselves or by another that was made before. */
#ifndef TESTS_SUPPORT_PKI_H
#define TESTS_SUPPORT_PKI_H

#include <stdbool.h>
#include <stdint.h>

enum { PKI_NAMES_MAX = 8 };

enum pki_kind {
    PKI_ECDSA_P256 = 0,
    PKI_ECDSA_P384,
    PKI_ECDSA_P521,
    PKI_ED25519,
    PKI_RSA_2048,
    PKI_RSA_1024,
};

struct pki_request {
    const char *chain_path; /* leaf first, then the issuers below the root */
    const char *key_path;
    const char *names[PKI_NAMES_MAX]; /* of subjectAltName; none: no such extension */
    const char *common_name;          /* NULL: the first of the names; "": an empty subject */
    enum pki_kind kind;
    int64_t not_before_s, not_after_s; /* from now; both 0: from an hour ago, for a day */
    const struct pki_request *issuer;  /* made already; NULL: signed by itself */
    bool is_ca;
    uint8_t key_usage;      /* the first octet of keyUsage (0x80: digitalSignature); 0: none */
    const char *passphrase; /* of the key file; NULL: in clear */
};

/* pki_make makes both files anew. False: it could not, and said why on stderr. */
bool pki_make(const struct pki_request *request);

/* pki_set_up makes a directory below /tmp and goes there, pki_tear_down removes it with the files
 * in it: for cmocka_run_group_tests. */
int pki_set_up(void **state);
int pki_tear_down(void **state);

#endif
