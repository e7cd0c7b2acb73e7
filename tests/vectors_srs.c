/* SRS as ringmx-vectors offers it: making and reading addresses, so that other implementations can
 * judge ours. */
#include "tests/vectors.h"

#include "gateway/policy/srs.h"

static const char *text_of(struct request *request, const char *name, const char *otherwise)
{
    const json_t *value = json_object_get(request->object, name);
    if (value != NULL && !json_is_string(value))
        snprintf(request->error, sizeof(request->error), "\"%s\" must be a string", name);
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

static uint64_t number_of(struct request *request, const char *name)
{
    const json_t *value = json_object_get(request->object, name);
    if (value != NULL && (!json_is_integer(value) || json_integer_value(value) < 0))
        snprintf(request->error, sizeof(request->error), "\"%s\" must be a number", name);
    return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}

static enum srs_result reverse(const struct srs *srs, struct bytes input, uint64_t now_s, char *out,
                               size_t *len)
{
    struct address address;
    enum address_result parsed = address_mailbox(input, true, &address);
    if (parsed != ADDRESS_OK && parsed != ADDRESS_LONG_LOCAL)
        return SRS_NOT_OURS;
    return srs_reverse(srs, &address, now_s, out, len);
}

json_t *vectors_srs(struct request *request)
{
    static const char *const names[] = {"ok", "not-ours", "forged", "expired", "too-long"};
    const struct bytes secret = bytes_of_string(text_of(request, "secret", ""));
    const struct srs_options options = {
        .domain = bytes_of_string(text_of(request, "of", "")),
        .secrets = &secret,
        .secret_count = 1,
        .max_age_days = (uint32_t)number_of(request, "max_age"),
        .hash_length = (uint32_t)number_of(request, "hash_length"),
        .separator = text_of(request, "separator", "=")[0],
    };
    uint64_t now_s = number_of(request, "now");
    bool backwards = vectors_flag(request, "reverse");
    if (request->error[0] != '\0')
        return NULL;
    struct srs *srs = srs_new(&options);
    if (srs == NULL) {
        snprintf(request->error, sizeof(request->error), "no such SRS: see gateway/policy/srs.h");
        return NULL;
    }
    char out[SRS_LEN_MAX];
    size_t len = 0;
    enum srs_result result = backwards ? reverse(srs, request->input, now_s, out, &len)
                                       : srs_forward(srs, request->input, now_s, out, &len);
    srs_free(srs);
    json_t *answer = json_object();
    vectors_put(answer, "result", json_string(names[result]));
    if (result == SRS_OK)
        vectors_put_bytes(answer, "mailbox", bytes_make(out, len));
    return answer;
}
