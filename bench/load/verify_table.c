/* The account: see verify_table.h. Entries lie in the order of the file, and a table of their
 * numbers finds them; so millions take 32 octets and 8 to 16 more each, and 8 for each copy in a
 * Maildir of a message with several recipients. */
#include "bench/load/verify_table.h"

#include "bench/words.h"
#include "gateway/spool/crc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const verify_finding_names[VERIFY_FINDING_COUNT] = {
    [VERIFY_LOST] = "lost",       [VERIFY_TORN] = "torn",   [VERIFY_DOUBLED] = "doubled",
    [VERIFY_STRANGE] = "strange", [VERIFY_OTHER] = "other",
};

/* --- reading --- */

/* word_take takes the next word of [*at, end), which a single space ends, or the end. */
static size_t word_take(const char **at, const char *end, const char **word)
{
    const char *space = memchr(*at, ' ', (size_t)(end - *at));
    *word = *at;
    *at = space != NULL ? space + 1 : end;
    return (size_t)((space != NULL ? space : end) - *word);
}

/* number_read reads all of a word of at most 10 digits. False: it is none. */
static bool number_read(const char *word, size_t len, unsigned base, uint32_t *number)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(digits, word[i], base);
        if (digit == NULL || i == 10)
            return false;
        value = value * base + (uint64_t)(digit - digits);
    }
    *number = (uint32_t)value;
    return len > 0 && value <= UINT32_MAX;
}

/* "ID SUM RECIPIENTS" */
static bool line_read(const char *line, const char *end, struct verify_entry *entry)
{
    const char *sum, *recipients;
    *entry = (struct verify_entry){0};
    entry->id_len = (uint32_t)word_take(&line, end, &entry->id);
    size_t sum_len = word_take(&line, end, &sum);
    size_t recipients_len = word_take(&line, end, &recipients);
    return line == end && recipients + recipients_len == end && entry->id_len > 0 &&
           entry->id_len <= VERIFY_ID_MAX && sum_len == 8 &&
           number_read(sum, sum_len, 16, &entry->sum) &&
           number_read(recipients, recipients_len, 10, &entry->recipients) && entry->recipients > 0;
}

static void entry_add(struct verify *verify, const struct verify_entry *entry)
{
    if (verify->count == verify->room) {
        verify->room = verify->room * 2 + 1024;
        verify->entries = realloc(verify->entries, verify->room * sizeof *verify->entries);
        if (verify->entries == NULL || verify->room > UINT32_MAX / 2)
            words_die("no memory for %zu acknowledged messages", verify->room);
    }
    verify->entries[verify->count++] = *entry;
}

void verify_table_read(struct verify *verify, const char *path)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) < 0)
        words_die("%s: %s", path, strerror(errno));
    size_t len = (size_t)status.st_size;
    const char *text = "";
    if (len > 0)
        text = mmap(NULL, len, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (text == MAP_FAILED)
        words_die("%s: %s", path, strerror(errno));
    close(descriptor);
    const char *end = text + len;
    for (size_t number = 1; text < end; number++) {
        struct verify_entry entry;
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        if (newline == NULL) {
            fprintf(stderr, "%s: the last line is not whole; it is left out\n", path);
            return;
        }
        if (!line_read(text, newline, &entry))
            words_die("%s: line %zu is not \"ID SUM RECIPIENTS\", as --acked writes it", path,
                      number);
        entry_add(verify, &entry);
        text = newline + 1;
    }
}

/* --- looking up --- */

/* slot_find returns where an id stands, or the free slot where it would. */
static uint32_t *slot_find(const struct verify *verify, const char *id, size_t len)
{
    uint64_t mixed = crc32c(0, id, len) * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(mixed >> 24) & (verify->slot_count - 1);
    while (verify->slots[at] != 0) {
        const struct verify_entry *entry = &verify->entries[verify->slots[at] - 1];
        if (entry->id_len == len && memcmp(entry->id, id, len) == 0)
            break;
        at = (at + 1) & (verify->slot_count - 1);
    }
    return &verify->slots[at];
}

void verify_table_index(struct verify *verify)
{
    verify->slot_count = 1024;
    while (verify->slot_count < verify->count * 2)
        verify->slot_count *= 2;
    verify->slots = calloc(verify->slot_count, sizeof *verify->slots);
    if (verify->slots == NULL)
        words_die("no memory for %zu acknowledged messages", verify->count);
    for (size_t i = 0; i < verify->count; i++) {
        const struct verify_entry *entry = &verify->entries[i];
        uint32_t *slot = slot_find(verify, entry->id, entry->id_len);
        if (*slot != 0)
            words_die("%.*s stands twice in what was acknowledged", (int)entry->id_len, entry->id);
        *slot = (uint32_t)i + 1;
    }
}

/* text_keep copies text that somebody else wrote; what is not printable ASCII as "?". */
static void text_keep(char *out, size_t size, const char *text, size_t len)
{
    size_t kept = len < size - 1 ? len : size - 1;
    for (size_t i = 0; i < kept; i++)
        out[i] = (char)(text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
    out[kept] = '\0';
}

static void list_add(struct verify_list *list, const char *id, size_t id_len, const char *place)
{
    if (list->count < VERIFY_LISTED_MAX) {
        struct verify_listed *listed = &list->first[list->count];
        text_keep(listed->id, sizeof listed->id, id, id_len);
        text_keep(listed->place, sizeof listed->place, place, strlen(place));
    }
    list->count++;
}

static void pair_add(struct verify *verify, uint32_t entry, uint32_t maildir)
{
    if (verify->pair_count == verify->pair_room) {
        verify->pair_room = verify->pair_room * 2 + 1024;
        verify->pairs = realloc(verify->pairs, verify->pair_room * sizeof *verify->pairs);
        if (verify->pairs == NULL)
            words_die("no memory for %zu copies", verify->pair_room);
    }
    verify->pairs[verify->pair_count++] = (uint64_t)entry << 32 | maildir;
}

void verify_found(struct verify *verify, const struct verify_found *found)
{
    verify->messages++;
    if (found->id == NULL) {
        list_add(&verify->lists[VERIFY_OTHER], "", 0, found->place);
        return;
    }
    uint32_t slot = *slot_find(verify, found->id, found->id_len);
    struct verify_entry *entry = slot != 0 ? &verify->entries[slot - 1] : NULL;
    bool whole = found->whole && (entry == NULL || entry->sum == found->sum);
    if (!whole)
        list_add(&verify->lists[VERIFY_TORN], found->id, found->id_len, found->place);
    else if (entry == NULL)
        list_add(&verify->lists[VERIFY_STRANGE], found->id, found->id_len, found->place);
    if (entry != NULL)
        *(found->maildir == 0 ? &entry->found_all : &entry->found_one) += 1;
    if (entry != NULL && found->maildir != 0 && entry->recipients > 1)
        pair_add(verify, slot - 1, found->maildir);
}

/* --- judging --- */

static int pair_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* maildirs_take returns in how many Maildirs an entry was found; *at goes on behind its pairs,
 * which are sorted. */
static uint32_t maildirs_take(const struct verify *verify, size_t entry, size_t *at)
{
    uint32_t maildirs = 0;
    for (; *at < verify->pair_count && verify->pairs[*at] >> 32 == entry; ++*at)
        maildirs += *at == 0 || verify->pairs[*at] != verify->pairs[*at - 1];
    return maildirs;
}

/* `maildirs`: in how many it was found, 0 where that did not matter. */
static void finding_add(struct verify *verify, enum verify_finding finding,
                        const struct verify_entry *entry, uint32_t maildirs)
{
    char text[96] = "", within[32] = "";
    uint32_t found = entry->found_all + entry->found_one;
    if (maildirs > 0 && maildirs < entry->found_one)
        snprintf(within, sizeof within, " in %u Maildir%s", maildirs, maildirs == 1 ? "" : "s");
    if (found > 0)
        snprintf(text, sizeof text, "found %u times%s, for %u recipient%s", found, within,
                 entry->recipients, entry->recipients == 1 ? "" : "s");
    list_add(&verify->lists[finding], entry->id, entry->id_len, text);
}

void verify_table_judge(struct verify *verify, uint32_t copies)
{
    size_t at = 0;
    if (verify->pair_count > 0)
        qsort(verify->pairs, verify->pair_count, sizeof *verify->pairs, pair_compare);
    for (size_t i = 0; i < verify->count; i++) {
        const struct verify_entry *entry = &verify->entries[i];
        uint32_t all = entry->found_all, one = entry->found_one;
        uint32_t maildirs = maildirs_take(verify, i, &at);
        bool apart = entry->recipients > 1 && entry->recipients <= verify->maildirs.count;
        uint32_t served = apart ? maildirs : one;
        bool lost = copies > 0 ? all + one < copies : all == 0 && served < entry->recipients;
        bool doubled = copies > 0 ? all + one > copies : all > 1 || one > entry->recipients;
        if (lost || doubled)
            finding_add(verify, lost ? VERIFY_LOST : VERIFY_DOUBLED, entry, apart ? maildirs : 0);
    }
}

void verify_table_free(struct verify *verify)
{
    free(verify->entries);
    free(verify->slots);
    free(verify->pairs);
    verify_seen_free(&verify->maildirs);
    verify_seen_free(&verify->files);
    *verify = (struct verify){0};
}
