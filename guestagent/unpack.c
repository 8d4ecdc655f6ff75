#include "guestagent/unpack.h"

#include <stdlib.h>

/* What a message may take beside its own bytes: 10,000 entries of a list take a quarter of it. */
#define BESIDE_MAX ((size_t)8 << 20)
#define OVERHEAD 16 /* of an allocation */

static void *take(void *arg, size_t size)
{
    size_t *left = arg;
    if (size > SIZE_MAX - OVERHEAD || size + OVERHEAD > *left)
        return NULL;
    *left -= size + OVERHEAD;
    return malloc(size);
}

/* It does not come back: what is made and dropped again takes time, too. */
static void drop(void *arg, void *memory)
{
    (void)arg;
    free(memory);
}

void *unpack_bounded(const ProtobufCMessageDescriptor *type, size_t length, const uint8_t *data)
{
    size_t left = 2 * length + BESIDE_MAX;
    ProtobufCAllocator allocator = {.alloc = take, .free = drop, .allocator_data = &left};
    return protobuf_c_message_unpack(type, &allocator, length, data);
}
