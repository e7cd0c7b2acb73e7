/* The keys, the message and the signatures of RFC 8463 appendix A, and keys that can not sign mail.
 */
#ifndef TESTS_SUPPORT_DKIM_EXAMPLES_H
#define TESTS_SUPPORT_DKIM_EXAMPLES_H

#include <stdint.h>

static const char example_rsa_pem[] =
    "-----BEGIN RSA PRIVATE KEY-----\n"
    "MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi\n"
    "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM\n"
    "KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB\n"
    "AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm\n"
    "6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe\n"
    "zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy\n"
    "6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc\n"
    "uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy\n"
    "WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd\n"
    "WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a\n"
    "licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst\n"
    "o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe\n"
    "uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL\n"
    "-----END RSA PRIVATE KEY-----\n";

static const char example_ed25519_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";
static const uint8_t example_ed25519_public[32] = {
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};

#define EXAMPLE_HEADER                                                                             \
    "From: Joe SixPack <joe@football.example.com>\r\n"                                             \
    "To: Suzie Q <suzie@shopping.example.net>\r\n"                                                 \
    "Subject: Is dinner ready?\r\n"                                                                \
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"                                              \
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
#define EXAMPLE_BODY      "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
#define EXAMPLE_BODY_HASH "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="

/* The values of the two fields, up to the signature, and the signatures. */
#define EXAMPLE_ED25519_VALUE                                                                      \
    " v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"                                               \
    " d=football.example.com; i=@football.example.com;\r\n"                                        \
    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"                                      \
    " subject : date : message-id : from : subject : date;\r\n"                                    \
    " bh=" EXAMPLE_BODY_HASH ";\r\n b="
#define EXAMPLE_ED25519_SIGNATURE                                                                  \
    "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
#define EXAMPLE_RSA_VALUE                                                                          \
    " v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"                                                   \
    " d=football.example.com; i=@football.example.com;\r\n"                                        \
    " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"                                \
    " date : message-id : from : subject : date;\r\n"                                              \
    " bh=" EXAMPLE_BODY_HASH ";\r\n b="
#define EXAMPLE_RSA_SIGNATURE                                                                      \
    "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tF"     \
    "OeS9mPYQTnGdaSGsgeefOsk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="

static const char example_encrypted_pem[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjwL/2OIqMxIwICCAAw\n"
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEF5hA30TCKRUmTQSh0A9/eQEQKu4\n"
    "+RdIAPdmtsvfovmCp0K6LjtrjjDdy5ueKj5zyJGx4MZx/V1OrAZFtOJrDx6iz7eU\n"
    "j7pX21Rlqodk4YUWs98=\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n";

static const char example_short_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIBUwIBADANBgkqhkiG9w0BAQEFAASCAT0wggE5AgEAAkEA3YPb2CU2y3Cp8yFn\n"
    "1QFEtBa2voeaAoVya7ACb2dUOoCx7Cxt98V2FkAVlBgWbUdsj0n15EEJkFj/aIjx\n"
    "yKBdYwIDAQABAkBnKvFqMrLZf2h3xxgv2X5hDa8g/9DX2cUXqIsJzasp70acoQXN\n"
    "qawVIOXeyZ28gOGyyLvSpd15HcrmK7jIdWgRAiEA7sQI7Mlx15ufeQ7flLNJ5Re8\n"
    "PiLF8k+dg+Pu4WqwMbsCIQDtgQ/d4uwmOed3Pgbb52BRwBTuCLTz2dqOf5Kd1t7U\n"
    "eQIgI9Lj5+sdmpTt63Lw1tXDq4zRIJ2FB6MsZgKH7+hbAUsCIBHc0BWvGHWziy4T\n"
    "sy5c04iyeqCAdSOV8fMfsyY939p5AiAbwGlKvn9IISo4aJAcHzMyWiLkdi+ccsu4\n"
    "T/o8+HX9Hg==\n"
    "-----END PRIVATE KEY-----\n";

static const char example_ecdsa_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZwMwWPBsYc7MziaR\n"
    "5qBWCnPEYjXsagroxw9SAPPqoKahRANCAAQ+2F2OZAXL04NU+RsiDiTWuQbM8rgc\n"
    "8m6lvNNQk7Urez+aS6fApOvspgxBmG6JUlmSHwY94yXYRUNzMkZOHShh\n"
    "-----END PRIVATE KEY-----\n";

#endif
