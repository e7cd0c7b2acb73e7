/* Stored passwords: hashes that doveadm has made, hashes that we make, and those that are not
 * taken. */
#include "gateway/policy/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parser/sasl.h"

static enum password_scheme reads(const char *stored, struct bytes *hash)
{
    const char *error = NULL;
    enum password_scheme scheme = password_read(bytes_of_string(stored), hash, &error);
    if (scheme == PASSWORD_UNKNOWN)
        fail_msg("%s: %s", stored, error);
    return scheme;
}

/* doveadm pw -p secret -s ... */
static void test_dovecot(void **state)
{
    (void)state;
    static const struct {
        const char *stored;
        enum password_scheme scheme;
    } cases[] = {
        {"{SHA512-CRYPT}$6$YtiAQZ0lDRKzJzFi$T4Qlqy9dhD1X7UYEMHR2oDfeGkBrtxEcuCZO/"
         "83PQRIrH5HtUAjuQmSUl.er/8xajIu5e.ccx4yFjF3xVaW4t0",                    PASSWORD_SHA512_CRYPT },
        {"{BLF-CRYPT}$2y$05$Qi8D1d4KHR.4FTpgvg4Ym.T13/NTuBZ/eRfhlUnwdpWiOWoD26.ji",
         PASSWORD_BLF_CRYPT                                                                                     },
        {"{argon2id}$argon2id$v=19$m=65536,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
         "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",                          PASSWORD_ARGON2ID     },
        {"{SCRAM-SHA-256}4096,+rcUiN8wov3HXdw4nqOZMw==,"
         "PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
         "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=",                         PASSWORD_SCRAM_SHA_256},
        {"{SHA256-CRYPT}$5$inThn5mToguu1Pk2$1bz3iaw8Xr67XQ3fDj5tGYUPc8a9a0TXfCYN1JS9D57",
         PASSWORD_CRYPT                                                                                         },
        {"{CRYPT}$2y$05$obNyhzpdVbi9GI55zRA9xOV8Fo06XbO1kiisljJ9Glhh96e.f10SK",           PASSWORD_CRYPT        },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct bytes hash;
        bool failed = true;
        assert_int_equal(reads(cases[i].stored, &hash), cases[i].scheme);
        if (!password_matches(cases[i].scheme, hash, BYTES("secret"), &failed))
            fail_msg("%s", cases[i].stored);
        assert_false(failed);
        assert_false(password_matches(cases[i].scheme, hash, BYTES("Secret"), NULL));
        assert_false(password_matches(cases[i].scheme, hash, BYTES("secret1"), NULL));
        assert_false(password_matches(cases[i].scheme, hash, BYTES("secre"), &failed));
        assert_false(failed);
        assert_in_range(password_memory(cases[i].scheme, hash), i == 3 ? 0 : 1,
                        PASSWORD_MEMORY_MAX);
        assert_true(password_work(cases[i].scheme, hash) > 0);
    }
}

/* Argon2 with four lanes has the same result in one thread as in four (libargon2). */
static void test_lanes(void **state)
{
    (void)state;
    struct bytes hash;
    assert_int_equal(reads("{ARGON2ID}$argon2id$v=19$m=1024,t=2,p=4$c2FsdHNhbHRzYWx0c2FsdA$"
                           "82a80edI3Uy6vTmbMC7gEdUCslIrbO50ZxTW5Lw+9CM",
                           &hash),
                     PASSWORD_ARGON2ID);
    assert_true(password_matches(PASSWORD_ARGON2ID, hash, BYTES("password"), NULL));
    assert_false(password_matches(PASSWORD_ARGON2ID, hash, BYTES("passwore"), NULL));
    assert_int_equal(password_memory(PASSWORD_ARGON2ID, hash), 1024 * 1024);
}

static void test_made(void **state)
{
    (void)state;
    char stored[PASSWORD_TEXT_MAX], again[PASSWORD_TEXT_MAX];
    for (int i = PASSWORD_UNKNOWN + 1; i < PASSWORD_SCHEME_COUNT; i++) {
        enum password_scheme scheme = (enum password_scheme)i;
        struct bytes hash;
        assert_true(password_make(scheme, BYTES("grunz: \xc3\xbc"), stored));
        assert_int_equal(reads(stored, &hash), scheme);
        assert_true(password_matches(scheme, hash, BYTES("grunz: \xc3\xbc"), NULL));
        assert_false(password_matches(scheme, hash, BYTES("grunz: \xc3\xbd"), NULL));
        assert_true(password_make(scheme, BYTES("grunz: \xc3\xbc"), again));
        assert_string_not_equal(stored, again); /* another salt */
        assert_int_equal(password_scheme_find(bytes_of_string(password_scheme_name(scheme))), i);
    }
    char text[SASL_PASSWORD_MAX + 1];
    memset(text, 'x', sizeof(text));
    assert_false(password_make(PASSWORD_SCRAM_SHA_256, BYTES(""), stored));
    assert_false(password_make(PASSWORD_SCRAM_SHA_256, BYTES("a\0b"), stored));
    assert_false(password_make(PASSWORD_ARGON2ID, bytes_make(text, sizeof(text)), stored));
    assert_true(password_make(PASSWORD_ARGON2ID, bytes_make(text, sizeof(text) - 1), stored));
    assert_false(password_make(PASSWORD_UNKNOWN, BYTES("a"), stored));
}

/* The longest password fits all schemes; one that is longer is wrong, and no failure of ours. */
static void test_longest(void **state)
{
    (void)state;
    char text[SASL_PASSWORD_MAX + 1], stored[PASSWORD_TEXT_MAX];
    memset(text, 'x', sizeof(text));
    struct bytes hash, longest = bytes_make(text, SASL_PASSWORD_MAX);
    bool failed = true;
    assert_true(password_make(PASSWORD_SHA512_CRYPT, longest, stored));
    assert_int_equal(reads(stored, &hash), PASSWORD_SHA512_CRYPT);
    assert_true(password_matches(PASSWORD_SHA512_CRYPT, hash, longest, &failed));
    assert_false(failed);
    assert_false(
        password_matches(PASSWORD_SHA512_CRYPT, hash, bytes_make(text, sizeof(text)), &failed));
    assert_false(failed);
}

static void test_not_taken(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "secret",
        "{PLAIN}secret",
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cm",
        "{MD5-CRYPT}$1$abcdefgh$HEHBNpJ1vVFLYfsVFMIkS1",
        "{CRYPT}$1$abcdefgh$HEHBNpJ1vVFLYfsVFMIkS1",
        "{CRYPT}abJnggxhB/yWI",
        "{CRYPT}",
        "{SHA512-CRYPT}",
        "{SHA512-CRYPT}$6$",
        "{SHA512-CRYPT}$6$salt$short",
        "{SHA512-CRYPT}$5$inThn5mToguu1Pk2$1bz3iaw8Xr67XQ3fDj5tGYUPc8a9a0TXfCYN1JS9D57",
        "{SHA512-CRYPT}$6$rounds=5000001$YtiAQZ0lDRKzJzFi$T4Qlqy9dhD1X7UYEMHR2oDfeGkBrtxEcuCZO/"
        "83PQRIrH5HtUAjuQmSUl.er/8xajIu5e.ccx4yFjF3xVaW4t0",
        "{SHA512-CRYPT}$6$rounds=10$YtiAQZ0lDRKzJzFi$T4Qlqy9dhD1X7UYEMHR2oDfeGkBrtxEcuCZO/"
        "83PQRIrH5HtUAjuQmSUl.er/8xajIu5e.ccx4yFjF3xVaW4t0",
        "{BLF-CRYPT}$2y$17$Qi8D1d4KHR.4FTpgvg4Ym.T13/NTuBZ/eRfhlUnwdpWiOWoD26.ji",
        "{BLF-CRYPT}$2y$05$Qi8D1d4KHR.4FTpgvg4Ym.T13/NTuBZ/eRfhlUnwdpWiOWoD26.j",
        "{BLF-CRYPT}$2x$05$Qi8D1d4KHR.4FTpgvg4Ym.T13/NTuBZ/eRfhlUnwdpWiOWoD26.ji",
        "{ARGON2ID}$argon2i$v=19$m=65536,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
        "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=16$m=65536,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
        "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=19$m=262145,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
        "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=19$m=262144,t=17,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
        "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=0,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
        "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=17$xOmrA+IakmJd1Ge3IbMRPA$"
        "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$$L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1",
        "{SCRAM-SHA-256}4096,AAAA",
        "{CRYPT}$y$j9T$x",
        "{CRYPT}$y$jZT$AcLYWBBr4ZZXpu8vrxtip1$QBuTe2CMZgtPRtKPz.laZECrZL4.vqfS3pnAGfui/w3",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct bytes hash;
        const char *error = NULL;
        if (password_read(bytes_of_string(bad[i]), &hash, &error) != PASSWORD_UNKNOWN)
            fail_msg("%s was taken", bad[i]);
        assert_non_null(error);
        assert_null(strstr(error, "secret"));
    }
}

/* What can't be compared is no match, and never the end of the program. */
static void test_odd(void **state)
{
    (void)state;
    bool failed;
    assert_false(password_matches(PASSWORD_UNKNOWN, BYTES(""), BYTES(""), &failed));
    assert_false(password_matches(PASSWORD_CRYPT, BYTES("$z$"), BYTES("a"), &failed));
    assert_true(failed);
    assert_false(password_matches(PASSWORD_ARGON2ID, BYTES("$argon2id$"), BYTES("a"), &failed));
    assert_false(password_matches(PASSWORD_SCRAM_SHA_256, BYTES("1,2"), BYTES("a"), &failed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dovecot), cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_made),    cmocka_unit_test(test_not_taken),
        cmocka_unit_test(test_odd),     cmocka_unit_test(test_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
