#include "guestagent/data_field.h"

#define LENGTH_DELIMITED 2

void data_field_head(uint8_t head[DATA_FIELD_HEAD], unsigned number, size_t length)
{
    head[0] = (uint8_t)(number << 3 | LENGTH_DELIMITED);
    head[1] = (uint8_t)(length & 0x7f) | 0x80;
    head[2] = (uint8_t)(length >> 7 & 0x7f) | 0x80;
    head[3] = (uint8_t)(length >> 14 & 0x7f);
}

bool data_field_alone(const uint8_t *message, size_t message_length, unsigned number,
                      const uint8_t **ret_data, size_t *ret_length)
{
    size_t length = 0, at = 1;
    if (message_length < 2 || message[0] != (uint8_t)(number << 3 | LENGTH_DELIMITED))
        return false;
    for (unsigned shift = 0;; shift += 7) {
        if (at == message_length || shift > 21)
            return false;
        length |= (size_t)(message[at] & 0x7f) << shift;
        if (!(message[at++] & 0x80))
            break;
    }
    if (length != message_length - at)
        return false;
    *ret_data = message + at;
    *ret_length = length;
    return true;
}
