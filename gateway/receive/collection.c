/* Text in chunks: see collection.h. */
#include "gateway/receive/collection.h"

#include "gateway/base/check.h"

#include <string.h>

static size_t room_in_newest(const struct collection *collection)
{
    return collection->count == 0
               ? 0
               : COLLECTION_CHUNK - collection->pieces[collection->count - 1].len;
}

bool collection_fits(const struct collection *collection, const struct blocks *pool, size_t more)
{
    size_t room = room_in_newest(collection);
    if (more <= room)
        return true;
    size_t wanted = (more - room + COLLECTION_CHUNK - 1) / COLLECTION_CHUNK;
    return wanted <= COLLECTION_CHUNKS_MAX - collection->count &&
           wanted <= pool->count - pool->used;
}

void collection_add(struct collection *collection, struct blocks *pool, struct bytes text)
{
    while (text.len > 0) { /* at most once a chunk */
        if (room_in_newest(collection) == 0) {
            CHECK(collection->count < COLLECTION_CHUNKS_MAX);
            collection->newest = blocks_take(pool);
            CHECK(collection->newest != NULL);
            collection->pieces[collection->count++] = bytes_make(collection->newest, 0);
        }
        struct bytes *piece = &collection->pieces[collection->count - 1];
        size_t room = COLLECTION_CHUNK - piece->len;
        size_t len = text.len < room ? text.len : room;
        memcpy(collection->newest + piece->len, text.data, len);
        piece->len += len;
        text = bytes_skip(text, len);
    }
}

size_t collection_len(const struct collection *collection)
{
    if (collection->count == 0)
        return 0;
    return (size_t)(collection->count - 1) * COLLECTION_CHUNK +
           collection->pieces[collection->count - 1].len;
}

void collection_empty(struct collection *collection, struct blocks *pool)
{
    for (uint32_t i = 0; i < collection->count; i++)
        blocks_give(pool, (void *)(uintptr_t)collection->pieces[i].data);
    collection->count = collection->staged = 0;
    collection->newest = NULL;
}
