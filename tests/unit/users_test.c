/* The users file: lines, names in all their forms, users that are locked, and what a name that
 * nobody has is compared with. */
#include "gateway/policy/users.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/policy/scram.h"

#define SHA                                                                                        \
    "{SHA512-CRYPT}$6$YtiAQZ0lDRKzJzFi$T4Qlqy9dhD1X7UYEMHR2oDfeGkBrtxEcuCZO/83PQRIrH5Ht"           \
    "UAjuQmSUl.er/8xajIu5e.ccx4yFjF3xVaW4t0"
#define BLOWFISH "{BLF-CRYPT}$2y$05$Qi8D1d4KHR.4FTpgvg4Ym.T13/NTuBZ/eRfhlUnwdpWiOWoD26.ji"
#define ARGON                                                                                      \
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$"                             \
    "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY"
#define SCRAM(iterations)                                                                          \
    "{SCRAM-SHA-256}" iterations ",+rcUiN8wov3HXdw4nqOZMw==,"                                      \
    "PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"                                                \
    "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ="

static struct users *users;

static int begin(void **state)
{
    (void)state;
    users = users_new();
    return users == NULL;
}

static int end(void **state)
{
    (void)state;
    users_free(users);
    return 0;
}

static void add(const char *line)
{
    const char *error = "";
    if (!users_add(users, bytes_of_string(line), &error))
        fail_msg("%s: %s", line, error);
}

static void refused(const char *line, const char *word)
{
    const char *error = "";
    assert_false(users_add(users, bytes_of_string(line), &error));
    if (strstr(error, word) == NULL)
        fail_msg("%s: %s", line, error);
}

static void is(const char *name, const char *domain, const char *want)
{
    const struct user *user = users_find(users, bytes_of_string(name), domain);
    if (want == NULL ? user != NULL
                     : user == NULL || !bytes_equal(user->name, bytes_of_string(want)))
        fail_msg("%s finds %s", name, user == NULL ? "nobody" : (const char *)user->name.data);
}

static void test_lines(void **state)
{
    (void)state;
    add("alice:" SHA);
    add("bob:" BLOWFISH ":1000:1000::/home/bob::userdb_mail=maildir:~/Mail");
    add("j\xc3\xbcrgen@example.org:" ARGON);
    assert_int_equal(users_count(users), 3);
    const struct user *bob = users_find(users, BYTES("bob"), NULL);
    assert_int_equal(bob->scheme, PASSWORD_BLF_CRYPT);
    assert_true(password_matches(bob->scheme, bob->hash, BYTES("secret"), NULL));
    assert_int_equal(users_memory(users), 64 << 20);
    refused("alice", "user:{SCHEME}hash");
    refused(":" SHA, "user:{SCHEME}hash");
    refused("a\tb:" SHA, "user:{SCHEME}hash");
    refused("carol:", "empty");
    refused("carol:{PLAIN}secret", "scheme");
    refused("carol:secret", "scheme");
    refused("ALICE:" SHA, "already");
    refused("carol:{SHA512-CRYPT}$6$x", "malformed");
    assert_int_equal(users_count(users), 3);
}

static void test_names(void **state)
{
    (void)state;
    add("alice:" SHA);
    add("Bob@Example.org:" SHA);
    add("carol@elsewhere.example:" SHA);
    is("alice", NULL, "alice");
    is("ALICE", "example.org", "alice");
    is("alice@example.org", "example.org", "alice");
    is("alice@EXAMPLE.ORG", "example.org", "alice");
    is("alice@example.org", NULL, NULL);
    is("alice@example.net", "example.org", NULL);
    is("bob", "example.org", "Bob@Example.org");
    is("bob", NULL, NULL);
    is("bob@example.org", NULL, "Bob@Example.org");
    is("carol", "example.org", NULL);
    is("carol@elsewhere.example", "example.org", "carol@elsewhere.example");
    is("", "example.org", NULL);
    is("@example.org", "example.org", NULL);
    is("alice@", "example.org", NULL);
    is("alice@@example.org", "example.org", NULL);
    char text[600];
    memset(text, 'a', sizeof(text));
    assert_null(users_find(users, bytes_make(text, sizeof(text)), "example.org"));
    assert_null(users_find(users, bytes_make(text, 255), "example.org"));
}

static void test_locked(void **state)
{
    (void)state;
    add("a:!" SHA);
    add("b:!");
    add("c:*");
    add("d:" SHA);
    add("a@example.org:" SHA); /* another user, and no way around the lock */
    is("a", "example.org", NULL);
    is("a", NULL, NULL);
    is("b", NULL, NULL);
    is("c", NULL, NULL);
    is("d", NULL, "d");
    refused("b:" SHA, "already");
}

/* Who is nobody costs as much as most. */
static void test_stranger(void **state)
{
    (void)state;
    const struct user *stranger = users_stranger(users);
    assert_int_equal(stranger->scheme, PASSWORD_SHA512_CRYPT);
    assert_false(password_matches(stranger->scheme, stranger->hash, BYTES("secret"), NULL));
    add("a:" BLOWFISH);
    assert_int_equal(users_stranger(users)->scheme, PASSWORD_BLF_CRYPT);
    add("b:" ARGON);
    add("c:" ARGON);
    assert_int_equal(users_stranger(users)->scheme, PASSWORD_ARGON2ID);
    add("d:" BLOWFISH);
    add("e:!" BLOWFISH); /* locked: nobody waits for this comparison */
    assert_int_equal(users_stranger(users)->scheme, PASSWORD_ARGON2ID);
    add("f:" BLOWFISH);
    assert_int_equal(users_stranger(users)->scheme, PASSWORD_BLF_CRYPT);
    assert_int_equal(users_stranger(users)->name.len, 0);
}

static void test_scram(void **state)
{
    (void)state;
    struct scram_secret one, two;
    add("a:" SHA);
    assert_false(users_scram(users));
    add("b:" SCRAM("4096"));
    assert_true(users_scram(users));
    users_scram_stranger(users, BYTES("x"), NULL, &one);
    assert_int_equal(one.iterations, 4096);
    assert_int_equal(one.salt_len, 16);
    add("c:" SCRAM("10000"));
    add("d:" SCRAM("10000"));
    users_scram_stranger(users, BYTES("X"), NULL, &two);
    assert_int_equal(two.iterations, 10000);
    assert_memory_equal(one.salt, two.salt, 16); /* others that come and go change nothing */
}

static void assert_salts(const struct users *those, const char *name, const char *domain,
                         bool equal, const struct users *others, const char *other)
{
    struct scram_secret one, two;
    users_scram_stranger(those, bytes_of_string(name), domain, &one);
    users_scram_stranger(others, bytes_of_string(other), domain, &two);
    assert_int_equal(memcmp(one.salt, two.salt, 16) == 0, equal);
}

/* Both forms of a name are one, as for those who are users. */
static void test_forms_of_strangers(void **state)
{
    (void)state;
    add("a:" SCRAM("4096"));
    assert_salts(users, "x", "example.org", true, users, "X@Example.ORG");
    assert_salts(users, "x@y", "example.org", true, users, "x@y@example.org");
    assert_salts(users, "x", "example.org", false, users, "x@example.com");
    assert_salts(users, "x", "example.org", false, users, "x@");
    assert_salts(users, "x", NULL, false, users, "x@example.org");
}

/* What a user knows, the own line, is no help; the secret is. */
static void test_seed(void **state)
{
    (void)state;
    const char *error;
    uint8_t known[CRYPTO_SHA256_LEN];
    struct scram_secret like = {.iterations = 4096, .salt_len = 16}, guessed, shown;
    struct users *others = users_new();
    assert_non_null(others);
    add("a:" SCRAM("4096"));
    const struct user *a = users_find(users, BYTES("a"), NULL);
    crypto_sha256(a->hash.data, a->hash.len, known);
    scram_secret_stranger(known, BYTES("x"), &like, &guessed);
    users_scram_stranger(users, BYTES("x"), NULL, &shown);
    assert_memory_not_equal(shown.salt, guessed.salt, 16);
    assert_true(users_keep_salts(users, BYTES("of all machines")));
    assert_salts(users, "x", NULL, false, others, "x");
    assert_true(users_add(others, BYTES("b:" SHA), &error));
    assert_true(users_keep_salts(others, BYTES("of all machines")));
    assert_salts(users, "x", NULL, true, others, "x");
    assert_true(users_keep_salts(others, BYTES("of other machines")));
    assert_salts(users, "x", NULL, false, others, "x");
    users_free(others);
}

/* A new load of the same file has the same salts for strangers. */
static void test_reload(void **state)
{
    (void)state;
    const char *error;
    struct scram_secret one, two;
    struct users *again = users_new();
    assert_non_null(again);
    add("a:" SCRAM("4096"));
    assert_true(users_add(again, BYTES("a:" SCRAM("4096")), &error));
    assert_true(users_add(again, BYTES("b:" SCRAM("4096")), &error));
    users_scram_stranger(users, BYTES("x"), NULL, &one);
    users_scram_stranger(again, BYTES("x"), NULL, &two);
    assert_memory_equal(one.salt, two.salt, 16);
    users_free(again);
}

static void test_many(void **state)
{
    (void)state;
    char line[256], name[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(line, sizeof(line), "user%d:" BLOWFISH, i);
        add(line);
    }
    assert_int_equal(users_count(users), 20000);
    for (int i = 0; i < 20000; i += 111) {
        snprintf(name, sizeof(name), "user%d", i);
        is(name, "example.org", name);
    }
    is("user20000", NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, begin, end),
        cmocka_unit_test_setup_teardown(test_names, begin, end),
        cmocka_unit_test_setup_teardown(test_locked, begin, end),
        cmocka_unit_test_setup_teardown(test_stranger, begin, end),
        cmocka_unit_test_setup_teardown(test_scram, begin, end),
        cmocka_unit_test_setup_teardown(test_forms_of_strangers, begin, end),
        cmocka_unit_test_setup_teardown(test_seed, begin, end),
        cmocka_unit_test_setup_teardown(test_reload, begin, end),
        cmocka_unit_test_setup_teardown(test_many, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
