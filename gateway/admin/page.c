/* page.html inside the program: see page.h. The Makefile knows that this file depends on it. */
#include "gateway/admin/page.h"

#include <stdio.h>
#include <string.h>

#include "gateway/base/check.h"
#include "tls/crypto.h"

__asm__(".section .rodata\n"
        ".global page_text\n"
        ".global page_text_end\n"
        "page_text:\n"
        ".incbin \"gateway/admin/page.html\"\n"
        "page_text_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char page_text[], page_text_end[];

enum { BASE64_MAX = 45 };

struct bytes page_html(void)
{
    return bytes_make(page_text, (size_t)(page_text_end - page_text));
}

/* 32 octets: ten groups of three, and one of two. */
static void base64(const uint8_t digest[CRYPTO_SHA256_LEN], char out[BASE64_MAX])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t padded[CRYPTO_SHA256_LEN + 1] = {0};
    memcpy(padded, digest, CRYPTO_SHA256_LEN);
    for (size_t i = 0; i < sizeof(padded); i += 3) {
        uint32_t group = (uint32_t)padded[i] << 16 | (uint32_t)padded[i + 1] << 8 | padded[i + 2];
        for (size_t n = 0; n < 4; n++)
            *out++ = digits[group >> (18 - 6 * n) & 63];
    }
    out[-1] = '=';
    *out = '\0';
}

/* hash_of gives the hash of what stands between `<tag>` and `</tag>`, of which there is one. */
static void hash_of(const char *open, const char *close, char out[BASE64_MAX])
{
    uint8_t digest[CRYPTO_SHA256_LEN];
    const char *start = strstr(page_text, open);
    CHECK(start != NULL);
    start += strlen(open);
    const char *end = strstr(start, close);
    CHECK(end != NULL);
    crypto_sha256(start, (size_t)(end - start), digest);
    base64(digest, out);
}

void page_policy(char *out)
{
    char style[BASE64_MAX], script[BASE64_MAX];
    hash_of("<style>", "</style>", style);
    hash_of("<script>", "</script>", script);
    int len = snprintf(out, PAGE_POLICY_MAX,
                       "default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; "
                       "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                       "frame-ancestors 'none'",
                       style, script);
    CHECK(len > 0 && len < PAGE_POLICY_MAX);
}
