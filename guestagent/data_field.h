/* Messages of the link that are one field of bytes and nothing else: the pieces of a file. They are
 * told and made without a copy of the bytes. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATA_FIELD_HEAD 4
#define DATA_FIELD_MAX ((size_t)1 << 21) /* less than this */

/* What goes before `length` bytes that are field `number` (1 to 15). Always as long: the length is
 * written with leading zeros, which whoever reads Protocol Buffers takes. */
void data_field_head(uint8_t head[DATA_FIELD_HEAD], unsigned number, size_t length);
/* False: the message has other fields, or is none. Gives the bytes, borrowed from it. */
bool data_field_alone(const uint8_t *message, size_t message_length, unsigned number,
                      const uint8_t **ret_data, size_t *ret_length);
