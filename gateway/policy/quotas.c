/* Quotas of users: see quotas.h. */
#include "gateway/policy/quotas.h"

#include <stdlib.h>

#include "gateway/policy/meter.h"

enum {
    HOUR_S = 3600,
    NAME_LEN = 256, /* of longer names the first octets tell them apart */
};

struct quotas {
    struct meter *meter;
};

struct quotas *quotas_new(uint32_t cells)
{
    struct quotas *quotas = calloc(1, sizeof(*quotas));
    if (quotas == NULL)
        return NULL;
    quotas->meter = meter_new(cells, HOUR_S);
    if (quotas->meter != NULL)
        return quotas;
    free(quotas);
    return NULL;
}

void quotas_free(struct quotas *quotas)
{
    if (quotas == NULL)
        return;
    meter_free(quotas->meter);
    free(quotas);
}

uint64_t quotas_octets(uint32_t cells)
{
    return meter_octets(cells);
}

static uint64_t key_of(const struct quotas *quotas, enum quota quota, struct bytes user)
{
    uint8_t name[NAME_LEN];
    const size_t len = user.len < NAME_LEN ? user.len : NAME_LEN;
    for (size_t i = 0; i < len; i++)
        name[i] = byte_lower(user.data[i]);
    return meter_key(quotas->meter, quota, name, len);
}

bool quotas_take(struct quotas *quotas, enum quota quota, uint32_t per_hour, struct bytes user,
                 uint64_t now_us)
{
    const struct meter_limit limit = {.count = per_hour, .interval_s = HOUR_S};
    return per_hour == 0 ||
           meter_take(quotas->meter, key_of(quotas, quota, user), &limit, 1, now_us);
}

void quotas_give(struct quotas *quotas, enum quota quota, uint32_t per_hour, struct bytes user,
                 uint64_t now_us)
{
    const struct meter_limit limit = {.count = per_hour, .interval_s = HOUR_S};
    if (per_hour != 0)
        meter_give(quotas->meter, key_of(quotas, quota, user), &limit, 1, now_us);
}
