/* Messages of a peer that is not trusted, taken apart. Any thread. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

/* As protobuf_c_message_unpack, with memory in proportion: of two bytes on the wire protobuf-c
 * makes hundreds (an empty message among others), so that 8 MiB would be a gigabyte and take
 * seconds. NULL where it is no such message, or wants more memory than any that an agent of ours
 * sends. The caller frees it by protobuf_c_message_free_unpacked. */
void *unpack_bounded(const ProtobufCMessageDescriptor *type, size_t length, const uint8_t *data);
