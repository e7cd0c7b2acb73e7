/* Whom an address stands for in the end: see directory_expand. Mailboxes are followed step by step,
 * breadth first, each one once; what is neither alias nor missing is a target. */
#include "gateway/base/check.h"
#include "gateway/policy/directory_inside.h"
#include "gateway/policy/mailbox.h"

#include <stdlib.h>

enum {
    STEPS_EXTRA = 64,      /* aliases on the way, besides one for each target */
    TEXT_MAX = 1024 * 256, /* octets of mailboxes that are made on the way */
    GENERATION_SHIFT = 32,
};

enum step_state {
    STEP_OPEN = 0,
    STEP_ALIAS = 1, /* followed */
    STEP_NOBODY = 2,
    STEP_TARGET = 3,
    STEP_FORWARDED = 4, /* a target that is not ours */
};

struct directory_step {
    struct bytes mailbox;
    uint32_t domain; /* index; domain_count: not ours */
    uint32_t hash;
    uint8_t depth;
    uint8_t state; /* enum step_state */
};

/* What belongs to one call. */
struct walk {
    const struct directory *directory;
    struct directory_expansion *expansion;
    uint64_t now_s;
    const struct directory_match *first; /* of the address itself; NULL: not looked up yet */
};

bool directory_expansion_init(struct directory_expansion *expansion, uint32_t target_max)
{
    CHECK(target_max > 0 && target_max <= 1 << 20);
    *expansion = (struct directory_expansion){.target_max = target_max, .text_max = TEXT_MAX};
    expansion->step_max = 2 * target_max + STEPS_EXTRA;
    expansion->mark_count = 64;
    while (expansion->mark_count < 2 * expansion->step_max)
        expansion->mark_count *= 2;
    expansion->targets = calloc(target_max, sizeof(*expansion->targets));
    expansion->steps = calloc(expansion->step_max, sizeof(*expansion->steps));
    expansion->marks = calloc(expansion->mark_count, sizeof(*expansion->marks));
    expansion->text = malloc(TEXT_MAX);
    if (expansion->targets != NULL && expansion->steps != NULL && expansion->marks != NULL &&
        expansion->text != NULL)
        return true;
    directory_expansion_free(expansion);
    return false;
}

void directory_expansion_free(struct directory_expansion *expansion)
{
    free(expansion->targets);
    free(expansion->steps);
    free(expansion->marks);
    free(expansion->text);
    *expansion = (struct directory_expansion){.target_count = 0};
}

/* Marks of earlier calls count for nothing. */
static void begin(struct directory_expansion *expansion)
{
    expansion->target_count = 0;
    expansion->step_count = 0;
    expansion->text_len = 0;
    expansion->flags = 0;
    expansion->aliased = false;
    if (++expansion->generation == 0) {
        memset(expansion->marks, 0, expansion->mark_count * sizeof(expansion->marks[0]));
        expansion->generation = 1;
    }
}

/* only makes the address as it was given the one target. */
static enum directory_verdict only(const struct directory *directory, uint32_t domain,
                                   struct bytes mailbox, struct directory_expansion *expansion)
{
    expansion->targets[0] = (struct directory_target){.mailbox = mailbox};
    expansion->target_count = 1;
    if (domain < directory->domain_count && bytes_find(mailbox, '@') < mailbox.len)
        expansion->flags = directory->domains[domain].flags;
    return DIRECTORY_ACCEPT;
}

/* step_find returns the place in `marks` of this mailbox, or of its absence. */
static uint32_t find_mark(const struct directory *directory,
                          const struct directory_expansion *expansion, struct bytes mailbox,
                          uint32_t domain, uint32_t hash)
{
    uint32_t i = hash & (expansion->mark_count - 1);
    while (expansion->marks[i] >> GENERATION_SHIFT == expansion->generation) {
        const struct directory_step *step = &expansion->steps[(uint32_t)expansion->marks[i]];
        if (step->hash == hash && step->domain == domain &&
            mailbox_same(step->mailbox, mailbox, domain < directory->domain_count))
            break;
        i = (i + 1) & (expansion->mark_count - 1);
    }
    return i;
}

/* find_domain: a mailbox without a domain (Postmaster) is at our first. */
static uint32_t find_domain(const struct directory *directory, struct bytes name)
{
    return name.len == 0 ? 0 : directory_domain_of(directory, name);
}

/* add_step adds a mailbox, which must last as long as the answer, unless it is there. Returns its
 * index; step_max: there is no room. */
static uint32_t add_step(const struct walk *walk, struct bytes mailbox, uint32_t depth)
{
    struct directory_expansion *expansion = walk->expansion;
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    struct bytes name;
    (void)mailbox_split(mailbox, local, &name);
    uint32_t domain = find_domain(walk->directory, name);
    uint32_t hash = mailbox_hash(mailbox, domain < walk->directory->domain_count);
    uint32_t mark = find_mark(walk->directory, expansion, mailbox, domain, hash);
    if (expansion->marks[mark] >> GENERATION_SHIFT == expansion->generation)
        return (uint32_t)expansion->marks[mark];
    if (expansion->step_count == expansion->step_max)
        return expansion->step_max;
    uint32_t index = expansion->step_count++;
    expansion->marks[mark] = (uint64_t)expansion->generation << GENERATION_SHIFT | index;
    expansion->steps[index] = (struct directory_step){
        .mailbox = mailbox, .domain = domain, .hash = hash, .depth = (uint8_t)depth};
    return index;
}

/* add_made is add_step for a mailbox that lies in a buffer of the caller's. */
static uint32_t add_made(const struct walk *walk, const char *made, size_t len, uint32_t depth)
{
    struct directory_expansion *expansion = walk->expansion;
    if (len > expansion->text_max - expansion->text_len)
        return expansion->step_max;
    uint8_t *text = expansion->text + expansion->text_len;
    memcpy(text, made, len);
    uint32_t before = expansion->step_count;
    uint32_t index = add_step(walk, bytes_make(text, len), depth);
    if (expansion->step_count > before)
        expansion->text_len += len;
    return index;
}

/* --- a step --- */

/* is_routed: does a mailbox of others ask their server to send it on somewhere else ("u%x", "x!u",
 * "u@x" in quotes)? A server that trusts us would, and we would have opened it to everybody. */
static bool is_routed(const struct directory *directory, struct bytes mailbox)
{
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes name;
    struct bytes local = bytes_make(text, mailbox_split(mailbox, text, &name));
    return directory_domain_of(directory, name) == directory->domain_count &&
           (bytes_find(local, '%') < local.len || bytes_find(local, '!') < local.len ||
            bytes_find(local, '@') < local.len);
}

/* follow_link adds what one link leads to. */
static enum directory_verdict follow_link(const struct walk *walk, uint32_t index,
                                          const struct directory_link *link, struct bytes local,
                                          struct bytes tag)
{
    struct directory_expansion *expansion = walk->expansion;
    uint32_t depth = expansion->steps[index].depth + 1u;
    uint32_t next;
    if ((link->kind & ~DIRECTORY_LINK_TAGGED) == DIRECTORY_LINK_MAILBOX) {
        next = add_step(walk, bytes_make(link->text, link->len), depth);
    } else {
        char made[ADDRESS_LEN_MAX];
        size_t len = directory_link_write(link, local, tag, made);
        if (len == 0)
            return DIRECTORY_ACCEPT; /* too long a name: nobody */
        if (is_routed(walk->directory, bytes_make(made, len)))
            return DIRECTORY_ROUTED;
        next = add_made(walk, made, len, depth);
    }
    if (next == expansion->step_max)
        return DIRECTORY_TOO_MANY;
    if (next == index)
        expansion->steps[index].state = STEP_TARGET; /* keeps a copy */
    return DIRECTORY_ACCEPT;
}

static enum directory_verdict follow_aliases(const struct walk *walk, uint32_t index,
                                             struct bytes local,
                                             const struct directory_match *match)
{
    struct directory_step *step = &walk->expansion->steps[index];
    struct bytes tag = bytes_skip(local, match->tag_start);
    enum directory_verdict verdict = DIRECTORY_ACCEPT;
    if (step->depth >= DIRECTORY_DEPTH_MAX)
        return DIRECTORY_LOOP;
    step->state = STEP_ALIAS;
    uint32_t last = match->aliases - 1;
    uint32_t place = last;
    do {
        place = directory_link_at(walk->directory, place)->next;
        const struct directory_link *link = directory_link_at(walk->directory, place);
        if ((link->kind & DIRECTORY_LINK_TAGGED) == match->kind)
            verdict = follow_link(walk, index, link, local, tag);
    } while (place != last && verdict == DIRECTORY_ACCEPT);
    return verdict;
}

/* follow_srs: an SRS address of ours stands for whom it says. *done: it is none, go on. */
static enum directory_verdict follow_srs(const struct walk *walk, uint32_t index, bool *done)
{
    struct directory_step *step = &walk->expansion->steps[index];
    struct address address;
    char made[SRS_LEN_MAX];
    size_t len = 0;
    *done = true;
    step->state = STEP_NOBODY;
    enum address_result result = address_mailbox(step->mailbox, true, &address);
    CHECK(result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL);
    switch (srs_reverse(walk->directory->srs, &address, walk->now_s, made, &len)) {
    case SRS_OK:
        if (step->depth >= DIRECTORY_DEPTH_MAX)
            return DIRECTORY_LOOP;
        step->state = STEP_ALIAS;
        return add_made(walk, made, len, step->depth + 1u) == walk->expansion->step_max
                   ? DIRECTORY_TOO_MANY
                   : DIRECTORY_ACCEPT;
    case SRS_FORGED:
    case SRS_EXPIRED: return index == 0 ? DIRECTORY_BAD_SRS : DIRECTORY_ACCEPT;
    case SRS_LATER: return DIRECTORY_LATER;
    case SRS_TOO_LONG: return DIRECTORY_ACCEPT;
    case SRS_NOT_OURS: break;
    }
    if (index == 0 && address.local.len > ADDRESS_LOCAL_LEN_USUAL)
        return DIRECTORY_BAD_ADDRESS;
    *done = step->domain == walk->directory->domain_count;
    if (*done && bytes_equal_nocase(address.local, BYTES("postmaster"))) {
        step->state = STEP_ALIAS;
        (void)add_step(walk, BYTES("postmaster"), step->depth + 1u);
    }
    return DIRECTORY_ACCEPT;
}

static enum directory_verdict take_step(const struct walk *walk, uint32_t index)
{
    const struct directory *directory = walk->directory;
    struct directory_step *step = &walk->expansion->steps[index];
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes domain;
    struct bytes local = bytes_make(text, mailbox_split(step->mailbox, text, &domain));
    if (directory->srs != NULL && srs_is_ours(directory->srs, domain)) {
        bool done;
        enum directory_verdict verdict = follow_srs(walk, index, &done);
        if (done)
            return verdict;
    }
    if (step->domain >= directory->domain_count) {
        step->state = domain.len == 0 ? STEP_TARGET : STEP_FORWARDED;
        return DIRECTORY_ACCEPT;
    }
    struct directory_match match = index == 0 && walk->first != NULL
                                       ? *walk->first
                                       : directory_match_local(directory, step->domain, local);
    if (match.found == DIRECTORY_ALIASED)
        return follow_aliases(walk, index, local, &match);
    if (match.found == DIRECTORY_POSTMASTER) {
        step->state = STEP_ALIAS;
        (void)add_step(walk, BYTES("postmaster"), step->depth + 1u);
        return DIRECTORY_ACCEPT;
    }
    step->state = match.found == DIRECTORY_MAILBOX ? STEP_TARGET : STEP_NOBODY;
    return DIRECTORY_ACCEPT;
}

/* --- the whole --- */

/* collect makes targets of the steps that are some. Aliases that lead to nothing but aliases lead
 * in a circle. */
static enum directory_verdict collect(struct directory_expansion *expansion)
{
    bool nobody = expansion->step_count == 1;
    for (uint32_t i = 0; i < expansion->step_count; i++) {
        const struct directory_step *step = &expansion->steps[i];
        nobody |= step->state == STEP_NOBODY;
        if (step->state != STEP_TARGET && step->state != STEP_FORWARDED)
            continue;
        if (expansion->target_count == expansion->target_max)
            return DIRECTORY_TOO_MANY;
        expansion->targets[expansion->target_count++] = (struct directory_target){
            .mailbox = step->mailbox, .forwarded = step->state == STEP_FORWARDED};
    }
    if (expansion->target_count > 0)
        return DIRECTORY_ACCEPT;
    return nobody ? DIRECTORY_NO_SUCH_USER : DIRECTORY_LOOP;
}

static enum directory_verdict follow(const struct walk *walk, const struct address *address,
                                     uint32_t domain)
{
    struct directory_expansion *expansion = walk->expansion;
    (void)add_step(walk, address->text, 0);
    for (uint32_t i = 0; i < expansion->step_count; i++) {
        enum directory_verdict verdict = take_step(walk, i);
        if (verdict != DIRECTORY_ACCEPT)
            return verdict;
    }
    enum directory_verdict verdict = collect(expansion);
    if (verdict != DIRECTORY_ACCEPT)
        return verdict;
    expansion->aliased = expansion->target_count > 1 || expansion->steps[0].state != STEP_TARGET;
    if (!expansion->aliased)
        return only(walk->directory, domain, address->text, expansion);
    return DIRECTORY_ACCEPT;
}

enum directory_verdict directory_expand(const struct directory *directory,
                                        const struct address *address, uint64_t now_s,
                                        struct directory_expansion *expansion)
{
    struct walk walk = {directory, expansion, now_s, NULL};
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes local = bytes_make(text, address_local_unquoted(address, text));
    begin(expansion);
    uint32_t domain = find_domain(directory, address->domain);
    if (directory->srs != NULL && srs_is_ours(directory->srs, address->domain))
        return follow(&walk, address, domain);
    if (address->local.len > ADDRESS_LOCAL_LEN_USUAL)
        return DIRECTORY_BAD_ADDRESS;
    if (address->domain.len == 0 && !bytes_equal_nocase(local, BYTES("postmaster")))
        return DIRECTORY_RELAY_DENIED;
    if (domain >= directory->domain_count)
        return address->domain.len == 0 ? only(directory, domain, address->text, expansion)
                                        : DIRECTORY_RELAY_DENIED;
    const struct directory_match match = directory_match_local(directory, domain, local);
    walk.first = &match;
    switch (match.found) {
    case DIRECTORY_NOBODY: return DIRECTORY_NO_SUCH_USER;
    case DIRECTORY_MAILBOX: return only(directory, domain, address->text, expansion);
    case DIRECTORY_POSTMASTER:
    case DIRECTORY_ALIASED: break;
    }
    return follow(&walk, address, domain);
}
