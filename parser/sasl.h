/* The messages of SASL mechanisms, as a server reads them (RFC 4616 PLAIN, RFC 5802 and 7677 SCRAM,
 * RFC 7628 OAUTHBEARER, XOAUTH2). Pure: results point into the message, which is already decoded
 * from base64. What they mean is for policy/. */
#ifndef PARSER_SASL_H
#define PARSER_SASL_H

#include "parser/bytes.h"

enum sasl_mechanism {
    SASL_UNKNOWN = 0,
    SASL_PLAIN,
    SASL_LOGIN,
    SASL_SCRAM_SHA_256,
    SASL_SCRAM_SHA_256_PLUS,
    SASL_OAUTHBEARER,
    SASL_XOAUTH2,
    SASL_MECHANISM_COUNT,
};

enum {
    SASL_NAME_MAX = 255,     /* octets of a user's name */
    SASL_PASSWORD_MAX = 511, /* of a password: as long as crypt(3) takes one */
    SASL_NONCE_MAX = 256,    /* of a client's nonce */
};

/* sasl_mechanism_find knows a name in any case; sasl_mechanism_name writes it as EHLO does
 * (constant). */
enum sasl_mechanism sasl_mechanism_find(struct bytes name);
const char *sasl_mechanism_name(enum sasl_mechanism mechanism);

/* sasl_name_valid: 1..SASL_NAME_MAX octets of UTF-8 without controls. */
bool sasl_name_valid(struct bytes name);

struct sasl_plain {
    struct bytes authorization; /* whom to act for; empty: for itself */
    struct bytes user;
    struct bytes password;
};

/* sasl_plain_parse reads [authzid] NUL authcid NUL passwd. False: no such message, a name that is
 * none, an empty or too long password. */
bool sasl_plain_parse(struct bytes message, struct sasl_plain *out)
    __attribute__((warn_unused_result));

/* SCRAM, the client's first message: gs2-header client-first-message-bare. */
struct sasl_scram_first {
    char binding;               /* 'n': none, 'y': the server has none, 'p': `binding_name` */
    struct bytes binding_name;  /* "tls-exporter" */
    struct bytes gs2_header;    /* with its last comma: what c= must repeat */
    struct bytes authorization; /* encoded (=2C, =3D); empty: none */
    struct bytes user;          /* encoded */
    struct bytes nonce;
    struct bytes bare; /* the part that is signed */
};
bool sasl_scram_first_parse(struct bytes message, struct sasl_scram_first *out)
    __attribute__((warn_unused_result));

/* The client's last message. */
struct sasl_scram_final {
    struct bytes binding; /* c=, base64 */
    struct bytes nonce;
    struct bytes proof;         /* base64 */
    struct bytes without_proof; /* the part that is signed */
};
bool sasl_scram_final_parse(struct bytes message, struct sasl_scram_final *out)
    __attribute__((warn_unused_result));

/* sasl_scram_name decodes saslname (RFC 5802 5.1) to `out` of SASL_NAME_MAX octets; 0: it is none.
 */
size_t sasl_scram_name(struct bytes encoded, uint8_t *out);

/* OAUTHBEARER and XOAUTH2: who says that he is whom, and that there is a token (which is never
 * looked into here). */
struct sasl_bearer {
    struct bytes user; /* OAUTHBEARER: a= of the GS2 header; may be empty there */
    struct bytes token;
};
bool sasl_bearer_parse(enum sasl_mechanism mechanism, struct bytes message, struct sasl_bearer *out)
    __attribute__((warn_unused_result));

#endif
