/* gateway/policy/srs: both ways, by known vectors, against tampering, age, other secrets, and what
 * can't be written as a mailbox. tests/e2e/test_srs.py has postsrsd judge the same. */
#include "gateway/policy/srs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DAY_S = 86400, NOW_S = 20000 * DAY_S + 12345 };

static const struct bytes secrets[] = {BYTES("tops3cr3t"), BYTES("an older one")};

static struct srs *make(const char *domain, uint32_t first, uint32_t count, uint32_t hash_length,
                        char separator)
{
    const struct srs_options options = {
        .domain = bytes_of_string(domain),
        .secrets = secrets + first,
        .secret_count = count,
        .hash_length = hash_length,
        .separator = separator,
    };
    struct srs *srs = srs_new(&options);
    assert_non_null(srs);
    return srs;
}

static struct srs *ours(void)
{
    return make("srs.example.org", 0, 1, 0, 0);
}

static enum srs_result forward(const struct srs *srs, const char *mailbox, uint64_t now_s,
                               char text[SRS_LEN_MAX + 1])
{
    size_t len = 0;
    enum srs_result result = srs_forward(srs, bytes_of_string(mailbox), now_s, text, &len);
    text[result == SRS_OK ? len : 0] = '\0';
    return result;
}

static enum srs_result reverse(const struct srs *srs, const char *mailbox, uint64_t now_s,
                               char text[SRS_LEN_MAX + 1])
{
    struct address address;
    size_t len = 0;
    enum address_result parsed = address_mailbox(bytes_of_string(mailbox), true, &address);
    assert_true(parsed == ADDRESS_OK || parsed == ADDRESS_LONG_LOCAL);
    enum srs_result result = srs_reverse(srs, &address, now_s, text, &len);
    text[result == SRS_OK ? len : 0] = '\0';
    return result;
}

/* Every sender that can be forwarded comes back as it was, but for the case of its domain. */
static void there_and_back(void **state)
{
    (void)state;
    static const char *const senders[] = {
        "alice@example.com",
        "a@b.c",
        "Alice.Smith+tag=x@Example.COM",
        "bounces+1234567-89ab-alice=example.org@em.news.example.com",
        "\"a b\"@example.com",
        "\"a\\\"b\\\\c@d\"@example.com",
        "\"\\\"quoted\\\"\"@example.com",
        "=leading@example.com",
        "j\xc3\xb6rg@m\xc3\xbcller.example",
        "user@1.2.3.4x",
        "SRS2=x@example.com",
        "SRS0@example.com",
        "SRS1=abcd=no'domain==abcd=XY=a.example=b@example.com",
        "SRS1=x@example.com", /* not what a forwarder makes: a user like any other */
        "0123456789012345678901234567890123456789012345678901234567890123456789@example.com",
    };
    struct srs *srs = ours();
    char wrapped[SRS_LEN_MAX + 1];
    char back[SRS_LEN_MAX + 1];
    for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++) {
        assert_int_equal(forward(srs, senders[i], NOW_S, wrapped), SRS_OK);
        assert_non_null(strstr(wrapped, "@srs.example.org"));
        assert_non_null(strstr(wrapped, "SRS0="));
        assert_int_equal(reverse(srs, wrapped, NOW_S, back), SRS_OK);
        assert_string_equal(back, senders[i]);
    }
    srs_free(srs);
}

/* Computed with another implementation of HMAC-SHA1 (Python's hmac): base64(hmac(secret,
 * lower(day + host + user)))[:4]; day 20000 is 544 of 1024: "RA". */
static void known_addresses(void **state)
{
    (void)state;
    char text[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    struct srs *plus = make("srs.example.org", 0, 1, 20, '+');
    assert_int_equal(forward(srs, "Alice@example.com", NOW_S, text), SRS_OK);
    assert_string_equal(text, "SRS0=71em=RA=example.com=Alice@srs.example.org");
    assert_int_equal(forward(plus, "Alice@example.com", NOW_S, text), SRS_OK);
    assert_string_equal(text, "SRS0+71emZfKhImobzev6OO61=RA=example.com=Alice@srs.example.org");
    assert_int_equal(forward(srs, "SRS0+abcd=XY=first.example=bob@second.example", NOW_S, text),
                     SRS_OK);
    assert_string_equal(text,
                        "SRS1=injT=second.example=+abcd=XY=first.example=bob@srs.example.org");
    /* A third forwarder keeps the first one's part. */
    assert_int_equal(
        forward(srs, "SRS1=WXYZ=first.example==abcd=XY=a.example=bob@second.example", NOW_S, text),
        SRS_OK);
    assert_string_equal(text, "SRS1=K3yX=first.example==abcd=XY=a.example=bob@srs.example.org");
    srs_free(srs);
    srs_free(plus);
}

static void the_later_form_goes_to_the_first_forwarder(void **state)
{
    (void)state;
    char first[SRS_LEN_MAX + 1], second[SRS_LEN_MAX + 1], third[SRS_LEN_MAX + 1];
    char back[SRS_LEN_MAX + 1];
    struct srs *one = make("one.example", 0, 1, 0, '-');
    struct srs *two = make("two.example", 1, 1, 0, '=');
    struct srs *three = make("three.example", 0, 1, 8, '+');
    assert_int_equal(forward(one, "bob@home.example", NOW_S, first), SRS_OK);
    assert_int_equal(forward(two, first, NOW_S, second), SRS_OK);
    assert_int_equal(forward(three, second, NOW_S, third), SRS_OK);
    /* The third sends a bounce straight to the first, and so does the second. */
    assert_int_equal(reverse(three, third, NOW_S, back), SRS_OK);
    assert_string_equal(back, first);
    assert_int_equal(reverse(two, second, NOW_S, back), SRS_OK);
    assert_string_equal(back, first);
    assert_int_equal(reverse(one, first, NOW_S, back), SRS_OK);
    assert_string_equal(back, "bob@home.example");
    /* Nobody takes what another one made. */
    assert_int_equal(reverse(one, second, NOW_S, back), SRS_NOT_OURS);
    srs_free(one);
    srs_free(two);
    srs_free(three);
}

static void what_is_left_alone(void **state)
{
    (void)state;
    char text[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    assert_int_equal(forward(srs, "", NOW_S, text), SRS_NOT_OURS);
    assert_int_equal(forward(srs, "x@SRS.example.ORG", NOW_S, text), SRS_NOT_OURS);
    assert_int_equal(forward(srs, "not a mailbox", NOW_S, text), SRS_TOO_LONG);
    assert_int_equal(forward(srs, "\"\"@example.com", NOW_S, text), SRS_TOO_LONG);
    static const char *const not_public[] = {
        "u@[x:a=b]",
        "user@[192.0.2.1]",
        "user@[IPv6:2001:db8::1]",
        "user@localhost",
        "user@127.0.0.1",
        "SRS0=abcd=XY=a.example=bob@localhost",
        "SRS1=abcd=a.example==abcd=XY=b.example=bob@[192.0.2.1]"};
    for (size_t i = 0; i < sizeof(not_public) / sizeof(not_public[0]); i++)
        assert_int_equal(forward(srs, not_public[i], NOW_S, text), SRS_NOT_OURS);
    /* One who pretends to come from such a host by way of another is a user like any other. */
    assert_int_equal(
        forward(srs, "SRS1=WXYZ=localhost==abcd=XY=a.example=b@c.example", NOW_S, text), SRS_OK);
    assert_memory_equal(text, "SRS0=", 5);
    assert_int_equal(reverse(srs, "alice@srs.example.org", NOW_S, text), SRS_NOT_OURS);
    assert_int_equal(reverse(srs, "srs@srs.example.org", NOW_S, text), SRS_NOT_OURS);
    assert_int_equal(reverse(srs, "SRS0@srs.example.org", NOW_S, text), SRS_NOT_OURS);
    assert_int_equal(reverse(srs, "SRS0x@srs.example.org", NOW_S, text), SRS_NOT_OURS);
    assert_int_equal(reverse(srs, "SRS0=a=b=c=d@example.com", NOW_S, text), SRS_NOT_OURS);
    assert_true(srs_is_ours(srs, BYTES("Srs.Example.Org")));
    assert_false(srs_is_ours(srs, BYTES("example.org")));
    srs_free(srs);
}

/* Genuine by its hash, but to a host of our own house: whoever knows the secret may have made it
 * with other rules. Hashes computed with Python's hmac. */
static void hosts_that_are_not_public_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "SRS0=sKQK=RA=localhost=bob@srs.example.org",
        "SRS0=zOpv=RA=127.0.0.1=bob@srs.example.org",
        "\"SRS0=cpxu=RA=[127.0.0.1]=bob\"@srs.example.org",
        "SRS1=JZOd=localhost==a=b=c=d@srs.example.org",
    };
    char text[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    assert_int_equal(reverse(srs, "SRS0=71em=RA=example.com=alice@srs.example.org", NOW_S, text),
                     SRS_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(reverse(srs, bad[i], NOW_S, text), SRS_FORGED);
    srs_free(srs);
}

/* When too many were wrong of late, a right one is not told from a wrong one. */
static void guesses_are_counted(void **state)
{
    (void)state;
    char good[SRS_LEN_MAX + 1], guess[SRS_LEN_MAX + 1], text[SRS_LEN_MAX + 1];
    for (uint32_t hash_length = 4; hash_length <= 20; hash_length += 4) {
        struct budget failures = {0};
        const struct srs_options options = {.domain = BYTES("srs.example.org"),
                                            .secrets = secrets,
                                            .secret_count = 2,
                                            .hash_length = hash_length,
                                            .failures = &failures};
        bool bounded = hash_length < SRS_HASH_SAFE;
        struct srs *srs = srs_new(&options);
        unsigned forged = 0;
        assert_int_equal(forward(srs, "alice@example.com", NOW_S, good), SRS_OK);
        for (int i = 0; i < 10 * BUDGET_BURST; i++) /* right ones are free, however many */
            assert_int_equal(reverse(srs, good, NOW_S, text), SRS_OK);
        for (int i = 0; i < 10 * BUDGET_BURST; i++) /* so is what has no hash to compare */
            assert_int_equal(reverse(srs, "SRS0=abc=RA=a.example=b@srs.example.org", NOW_S, text),
                             SRS_FORGED);
        memcpy(guess, good, sizeof(guess));
        guess[5] = guess[5] == 'A' ? 'B' : 'A';
        for (int i = 0; i < 10 * BUDGET_BURST; i++)
            forged += reverse(srs, guess, NOW_S, text) == SRS_FORGED;
        assert_in_range(forged, bounded ? BUDGET_BURST : 10 * BUDGET_BURST, 10 * BUDGET_BURST);
        if (bounded) {
            assert_in_range(forged, BUDGET_BURST, 2 * BUDGET_BURST); /* unless it took 10 s */
            while (reverse(srs, guess, NOW_S, text) != SRS_LATER)
                continue;
        }
        assert_int_equal(reverse(srs, good, NOW_S, text), bounded ? SRS_LATER : SRS_OK);
        srs_free(srs);
    }
}

/* The longest local part and mailbox that still fit, and one more octet. */
static void lengths(void **state)
{
    (void)state;
    char sender[300], text[SRS_LEN_MAX + 1], back[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    size_t fits = 0;
    for (size_t len = 1; len <= 240; len++) {
        memset(sender, 'u', len);
        memcpy(sender + len, "@example.com", 13);
        enum srs_result result = forward(srs, sender, NOW_S, text);
        assert_int_equal(result, len <= 213 ? SRS_OK : SRS_TOO_LONG);
        if (result != SRS_OK)
            continue;
        fits++;
        assert_in_range(strlen(text), 1, ADDRESS_LEN_MAX);
        assert_int_equal(reverse(srs, text, NOW_S, back), SRS_OK);
        assert_string_equal(back, sender);
    }
    assert_int_equal(fits, 213);
    srs_free(srs);
}

/* No octet may be changed, but for the case of letters. */
static void tampering(void **state)
{
    (void)state;
    char good[SRS_LEN_MAX + 1], bad[SRS_LEN_MAX + 1], text[SRS_LEN_MAX + 1];
    struct srs *srs = make("srs.example.org", 0, 1, 12, 0);
    assert_int_equal(forward(srs, "alice@example.com", NOW_S, good), SRS_OK);
    size_t len = (size_t)(strchr(good, '@') - good);
    for (size_t i = 5; i < len; i++) {
        for (int c = '!'; c <= '~'; c++) {
            memcpy(bad, good, sizeof(bad));
            bad[i] = (char)c;
            struct address address;
            if (byte_lower((uint8_t)c) == byte_lower((uint8_t)good[i]) ||
                address_mailbox(bytes_of_string(bad), false, &address) != ADDRESS_OK)
                continue;
            assert_int_equal(reverse(srs, bad, NOW_S, text), SRS_FORGED);
        }
    }
    for (size_t cut = 5; cut < len; cut++) { /* and none may be missing */
        memcpy(bad, good, cut);
        memcpy(bad + cut, good + cut + 1, sizeof(bad) - cut - 1);
        struct address address;
        if (address_mailbox(bytes_of_string(bad), false, &address) == ADDRESS_OK)
            assert_int_equal(reverse(srs, bad, NOW_S, text), SRS_FORGED);
    }
    srs_free(srs);
}

static void malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "SRS0=@srs.example.org",           "SRS0==@srs.example.org",
        "SRS0=a@srs.example.org",          "SRS0=aaaa=@srs.example.org",
        "SRS0=aaaa=bb@srs.example.org",    "SRS0=aaaa=bb=@srs.example.org",
        "SRS0=aaaa=bb=c@srs.example.org",  "SRS0=aaaa=bb=c=@srs.example.org",
        "SRS0=aaaa=bb==d@srs.example.org", "SRS0-aaaa-bb-c-d@srs.example.org",
        "SRS1=aaaa@srs.example.org",       "SRS1=aaaa=b@srs.example.org",
        "SRS1=aaaa=b=@srs.example.org",    "SRS1=aaaa=b=c@srs.example.org",
        "SRS1=aaaa=b==@srs.example.org",   "\"SRS0=\"@srs.example.org",
    };
    char text[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(reverse(srs, bad[i], NOW_S, text), SRS_FORGED);
    srs_free(srs);
}

static void case_and_quotes_may_change_on_the_way(void **state)
{
    (void)state;
    char good[SRS_LEN_MAX + 1], other[SRS_LEN_MAX + 1], back[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    assert_int_equal(forward(srs, "alice@example.com", NOW_S, good), SRS_OK);
    snprintf(other, sizeof(other), "\"%.*s\"@srs.example.org", (int)(strchr(good, '@') - good),
             good);
    assert_int_equal(reverse(srs, other, NOW_S, back), SRS_OK);
    assert_string_equal(back, "alice@example.com");
    for (size_t i = 0; good[i] != '\0'; i++)
        good[i] = (char)byte_lower((uint8_t)good[i]);
    assert_int_equal(reverse(srs, good, NOW_S, back), SRS_OK);
    assert_string_equal(back, "alice@example.com");
    srs_free(srs);
}

static void age(void **state)
{
    (void)state;
    char made[SRS_LEN_MAX + 1], back[SRS_LEN_MAX + 1];
    struct srs *srs = ours();
    for (uint64_t first = 1014; first <= 1024; first += 5) { /* over the end of the days, too */
        uint64_t made_s = first * DAY_S;
        assert_int_equal(forward(srs, "alice@example.com", made_s, made), SRS_OK);
        for (uint64_t later = 0; later < 1023; later++) {
            enum srs_result want = later <= 21 ? SRS_OK : SRS_EXPIRED;
            assert_int_equal(reverse(srs, made, made_s + later * DAY_S, back), want);
        }
        /* Another gateway's clock is behind. */
        assert_int_equal(reverse(srs, made, made_s - 1, back), SRS_OK);
        assert_int_equal(reverse(srs, made, made_s - DAY_S - 1, back), SRS_EXPIRED);
    }
    srs_free(srs);
    const struct srs_options options = {
        .domain = BYTES("x.example"), .secrets = secrets, .secret_count = 1, .max_age_days = 1};
    srs = srs_new(&options);
    assert_int_equal(forward(srs, "alice@example.com", NOW_S, made), SRS_OK);
    assert_int_equal(reverse(srs, made, NOW_S + DAY_S, back), SRS_OK);
    assert_int_equal(reverse(srs, made, NOW_S + 2 * DAY_S, back), SRS_EXPIRED);
    srs_free(srs);
}

static void secrets_are_rotated(void **state)
{
    (void)state;
    char made[SRS_LEN_MAX + 1], back[SRS_LEN_MAX + 1];
    struct srs *old = make("x.example", 1, 1, 0, 0);
    struct srs *both = make("x.example", 0, 2, 0, 0);
    struct srs *new = make("x.example", 0, 1, 0, 0);
    assert_int_equal(forward(old, "alice@example.com", NOW_S, made), SRS_OK);
    assert_int_equal(reverse(both, made, NOW_S, back), SRS_OK);
    assert_int_equal(reverse(new, made, NOW_S, back), SRS_FORGED);
    assert_int_equal(forward(both, "alice@example.com", NOW_S, made), SRS_OK);
    assert_int_equal(reverse(new, made, NOW_S, back), SRS_OK);
    assert_int_equal(reverse(old, made, NOW_S, back), SRS_FORGED);
    srs_free(old);
    srs_free(both);
    srs_free(new);
}

/* Longer hashes than ours are taken, shorter ones are not: they would be guessed. */
static void hash_lengths(void **state)
{
    (void)state;
    char made[SRS_LEN_MAX + 1], back[SRS_LEN_MAX + 1];
    for (uint32_t maker = 1; maker <= 27; maker++) {
        struct srs *from = make("x.example", 0, 1, maker, 0);
        assert_int_equal(forward(from, "alice@example.com", NOW_S, made), SRS_OK);
        assert_int_equal(strlen(made), strlen("SRS0==RA=example.com=alice@x.example") + maker);
        for (uint32_t reader = 1; reader <= 27; reader++) {
            struct srs *to = make("x.example", 0, 1, reader, 0);
            assert_int_equal(reverse(to, made, NOW_S, back), maker >= reader ? SRS_OK : SRS_FORGED);
            srs_free(to);
        }
        srs_free(from);
    }
}

static void bad_options(void **state)
{
    (void)state;
    const struct srs_options good = {
        .domain = BYTES("x.example"), .secrets = secrets, .secret_count = 1};
    struct srs_options options = good;
    options.secret_count = 0;
    assert_null(srs_new(&options));
    options.secret_count = SRS_SECRETS_MAX + 1;
    assert_null(srs_new(&options));
    options = good;
    options.separator = '.';
    assert_null(srs_new(&options));
    options = good;
    options.hash_length = 28;
    assert_null(srs_new(&options));
    options = good;
    options.max_age_days = 1023;
    assert_null(srs_new(&options));
    options = good;
    options.domain.len = 0;
    assert_null(srs_new(&options));
    static const struct bytes empty[] = {BYTES("a"), BYTES("")};
    options = good;
    options.secrets = empty;
    options.secret_count = 2;
    assert_null(srs_new(&options));
    srs_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(known_addresses),
        cmocka_unit_test(the_later_form_goes_to_the_first_forwarder),
        cmocka_unit_test(what_is_left_alone),
        cmocka_unit_test(lengths),
        cmocka_unit_test(tampering),
        cmocka_unit_test(malformed),
        cmocka_unit_test(case_and_quotes_may_change_on_the_way),
        cmocka_unit_test(age),
        cmocka_unit_test(secrets_are_rotated),
        cmocka_unit_test(hash_lengths),
        cmocka_unit_test(hosts_that_are_not_public_are_refused),
        cmocka_unit_test(guesses_are_counted),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests_name("srs", tests, NULL, NULL);
}
