/* Memory for what nobody else may see: zeroed pages of its own, kept out of swap where the limits
 * allow it, out of core dumps and out of children, and wiped before it is given back. Any thread.
 */
#pragma once

#include <stddef.h>

/* NULL without memory. */
void *secret_memory_new(size_t size);
/* NULL is allowed; size as it was asked for. */
void secret_memory_free(void *memory, size_t size);
