/* tls/ticket: what is sealed opens, everywhere with the same secret and for three epochs; nothing
 * else does. */
#include "tls/ticket.h"

#include "tests/support/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { EPOCH_S = 43200, STATE_LEN = 150 };

static const uint64_t noon = UINT64_C(41665) * EPOCH_S; /* the first second of an epoch */

static void write_file(const char *path, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    for (size_t i = 0; i < len; i++)
        assert_int_not_equal(fputc((int)(i & 255), file), EOF);
    assert_int_equal(fclose(file), 0);
}

static struct ticket_keys keys_from(const char *path, uint32_t epoch_s)
{
    struct ticket_keys keys = {.epoch = UINT64_MAX};
    char error[256] = "";

    if (!ticket_secret_load(&keys.secret, path, epoch_s, error, sizeof(error)))
        fail_msg("%s", error);
    return keys;
}

static struct ticket_keys random_keys(void)
{
    struct ticket_keys keys = {.epoch = UINT64_MAX};

    ticket_secret_random(&keys.secret, EPOCH_S);
    return keys;
}

static void fill(uint8_t *state, size_t len)
{
    for (size_t i = 0; i < len; i++)
        state[i] = (uint8_t)(i * 7 + 1);
}

/* Seals at one time and opens at another. */
static bool passes(struct ticket_keys *from, uint64_t sealed_s, struct ticket_keys *to,
                   uint64_t opened_s)
{
    uint8_t state[STATE_LEN], opened[STATE_LEN + TICKET_OVERHEAD];
    uint8_t ticket[STATE_LEN + TICKET_OVERHEAD];

    fill(state, sizeof(state));
    assert_int_equal(ticket_seal(from, sealed_s, state, sizeof(state), ticket), sizeof(ticket));
    ptrdiff_t len = ticket_open(to, opened_s, ticket, sizeof(ticket), opened);
    assert_true(len == -1 || len == STATE_LEN);
    assert_true(len == -1 || memcmp(opened, state, sizeof(state)) == 0);
    return len == STATE_LEN;
}

static void tickets_of_every_length_open(void **unused)
{
    (void)unused;
    struct ticket_keys keys = random_keys();

    for (size_t len = 0; len < 700; len++) {
        uint8_t *state = malloc(len + 1), *ticket = malloc(len + TICKET_OVERHEAD);
        uint8_t *opened = malloc(len + TICKET_OVERHEAD); /* so that a sanitizer sees the end */
        fill(state, len);
        assert_int_equal(ticket_seal(&keys, noon, state, len, ticket), len + TICKET_OVERHEAD);
        assert_int_equal(ticket_open(&keys, noon, ticket, len + TICKET_OVERHEAD, opened), len);
        assert_memory_equal(opened, state, len);
        free(state);
        free(ticket);
        free(opened);
    }
}

static void input_may_be_output(void **unused)
{
    (void)unused;
    struct ticket_keys keys = random_keys();
    uint8_t state[STATE_LEN], place[STATE_LEN + TICKET_OVERHEAD];

    fill(state, sizeof(state));
    memcpy(place, state, sizeof(state));
    assert_int_equal(ticket_seal(&keys, noon, place, STATE_LEN, place), sizeof(place));
    assert_int_equal(ticket_open(&keys, noon, place, sizeof(place), place), STATE_LEN);
    assert_memory_equal(place, state, sizeof(state));
}

static bool contains(const uint8_t *all, size_t all_len, const uint8_t *part, size_t part_len)
{
    for (size_t i = 0; i + part_len <= all_len; i++)
        if (memcmp(all + i, part, part_len) == 0)
            return true;
    return false;
}

static void tickets_show_nothing(void **unused)
{
    (void)unused;
    struct ticket_keys keys = random_keys();
    uint8_t state[STATE_LEN], one[STATE_LEN + TICKET_OVERHEAD], two[sizeof(one)];

    fill(state, sizeof(state));
    assert_int_equal(ticket_seal(&keys, noon, state, STATE_LEN, one), sizeof(one));
    assert_int_equal(ticket_seal(&keys, noon, state, STATE_LEN, two), sizeof(two));
    assert_memory_equal(one, two, TICKET_NAME_LEN);
    assert_memory_not_equal(one + TICKET_NAME_LEN, two + TICKET_NAME_LEN, TICKET_NONCE_LEN);
    for (size_t i = 0; i + 4 <= sizeof(state); i += 4)
        assert_false(contains(one, sizeof(one), state + i, 4) &&
                     contains(two, sizeof(two), state + i, 4));
    assert_false(contains(one, sizeof(one), keys.keys[1].key, 32));
}

static void damaged_tickets_do_not_open(void **unused)
{
    (void)unused;
    struct ticket_keys keys = random_keys();
    uint8_t state[STATE_LEN], ticket[STATE_LEN + TICKET_OVERHEAD], opened[sizeof(ticket)];

    fill(state, sizeof(state));
    assert_int_equal(ticket_seal(&keys, noon, state, STATE_LEN, ticket), sizeof(ticket));
    for (size_t bit = 0; bit < 8 * sizeof(ticket); bit++) {
        ticket[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(ticket_open(&keys, noon, ticket, sizeof(ticket), opened), -1);
        ticket[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < sizeof(ticket); len++)
        assert_int_equal(ticket_open(&keys, noon, ticket, len, opened), -1);
    assert_int_equal(ticket_open(&keys, noon, ticket, sizeof(ticket), opened), STATE_LEN);
}

/* Two threads or machines with the same file have never met, and one of them is at every age. */
static void same_secret_same_keys(void **unused)
{
    (void)unused;
    write_file("secret", 48);
    struct ticket_keys one = keys_from("secret", EPOCH_S), two = keys_from("secret", EPOCH_S);

    assert_true(passes(&one, noon, &two, noon));
    assert_true(passes(&two, noon + 1, &one, noon + EPOCH_S));
    assert_true(passes(&one, noon + 90 * EPOCH_S, &two, noon + 90 * EPOCH_S));
    assert_true(passes(&two, noon, &one, noon)); /* and back in time */
}

static void other_secrets_have_other_keys(void **unused)
{
    (void)unused;
    write_file("secret", 48);
    write_file("longer", 49);
    struct ticket_keys one = keys_from("secret", EPOCH_S), longer = keys_from("longer", EPOCH_S);
    struct ticket_keys chance = random_keys(), again = random_keys();
    struct ticket_keys hourly = keys_from("secret", 3600);

    assert_true(passes(&one, noon, &one, noon));
    assert_false(passes(&one, noon, &longer, noon));
    assert_false(passes(&one, noon, &chance, noon));
    assert_false(passes(&chance, noon, &again, noon));
    assert_false(passes(&one, noon, &hourly, noon));
    assert_false(passes(&one, 0, &hourly, 0)); /* even where the epochs have the same number */
}

static void three_epochs_are_accepted(void **unused)
{
    (void)unused;
    struct ticket_keys from = random_keys(), to = from;
    uint64_t middle = noon + EPOCH_S / 2;

    assert_true(passes(&from, middle, &to, noon));
    assert_true(passes(&from, middle, &to, noon + EPOCH_S - 1));
    assert_true(passes(&from, middle, &to, noon + 2 * EPOCH_S - 1)); /* the previous */
    assert_false(passes(&from, middle, &to, noon + 2 * EPOCH_S));
    assert_true(passes(&from, middle, &to, noon - 1)); /* of a clock that is ahead */
    assert_true(passes(&from, middle, &to, noon - EPOCH_S));
    assert_false(passes(&from, middle, &to, noon - EPOCH_S - 1));
    assert_true(passes(&from, 0, &to, 0)); /* a clock that was never set */
    assert_true(passes(&from, 0, &to, EPOCH_S));
}

/* HKDF-SHA256 with salt "ringmx tickets 1" and info epoch | lifetime, both big endian, computed by
 * another implementation: tickets outlive a version of this program. */
static void keys_are_as_ever(void **unused)
{
    (void)unused;
    static const char want[] = "d7eba033965ade4ba452b9960bf246ceb24b3cf8bcb50272"
                               "7c9c8a6eed7e294eef47677d60bc3d69f55c476fa9c3c52f";
    uint8_t state[1] = {0}, ticket[1 + TICKET_OVERHEAD];
    char hex[2 * 48 + 1];

    write_file("secret", 48);
    struct ticket_keys keys = keys_from("secret", EPOCH_S);
    assert_int_equal(ticket_seal(&keys, noon, state, 1, ticket), sizeof(ticket));
    for (size_t i = 0; i < TICKET_NAME_LEN; i++)
        snprintf(hex + 2 * i, 3, "%02x", ticket[i]);
    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * (TICKET_NAME_LEN + i), 3, "%02x", keys.keys[1].key[i]);
    assert_string_equal(hex, want);
}

static void bad_secret_files_are_named(void **unused)
{
    (void)unused;
    struct ticket_secret secret;
    char error[256];

    write_file("short", TICKET_SECRET_MIN - 1);
    write_file("enough", TICKET_SECRET_MIN);
    write_file("much", 4096);
    write_file("too-much", 4097);
    static const char *const bad[] = {"short", "too-much", "not-there", "."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        error[0] = 0;
        assert_false(ticket_secret_load(&secret, bad[i], EPOCH_S, error, sizeof(error)));
        assert_ptr_equal(strstr(error, bad[i]), error);
        assert_true(strlen(error) > strlen(bad[i]) + 8);
    }
    assert_true(ticket_secret_load(&secret, "enough", EPOCH_S, error, sizeof(error)));
    assert_true(ticket_secret_load(&secret, "much", EPOCH_S, error, sizeof(error)));
    assert_int_equal(secret.epoch_s, EPOCH_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tickets_of_every_length_open),
        cmocka_unit_test(input_may_be_output),
        cmocka_unit_test(tickets_show_nothing),
        cmocka_unit_test(damaged_tickets_do_not_open),
        cmocka_unit_test(same_secret_same_keys),
        cmocka_unit_test(other_secrets_have_other_keys),
        cmocka_unit_test(three_epochs_are_accepted),
        cmocka_unit_test(keys_are_as_ever),
        cmocka_unit_test(bad_secret_files_are_named),
    };
    return cmocka_run_group_tests_name("ticket", tests, pki_set_up, pki_tear_down);
}
