#include "base/secret_memory.h"

#include <string.h>
#include <sys/mman.h>

void *secret_memory_new(size_t size)
{
    void *memory = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* Each is a second line: the limit of locked memory may be too low, a kernel too old. */
    (void)mlock2(memory, size ? size : 1, MLOCK_ONFAULT);
    (void)madvise(memory, size ? size : 1, MADV_DONTDUMP);
    (void)madvise(memory, size ? size : 1, MADV_WIPEONFORK);
    return memory;
}

void secret_memory_free(void *memory, size_t size)
{
    if (!memory)
        return;
    explicit_bzero(memory, size);
    munmap(memory, size ? size : 1);
}
