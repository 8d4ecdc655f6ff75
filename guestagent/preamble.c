#include "guestagent/preamble.h"

#include <string.h>

/* As an HTTP/2 frame header: 16,777,215 bytes of payload, far above what either end allows. */
static const uint8_t magic[] = {0xff, 0xff, 0xff, 0xff, 'h', 'e', 'a', 'r', 't', 'h', 0};
#define RUN 4 /* pads that the magic begins with */

_Static_assert(sizeof magic + 1 + PREAMBLE_NONCE_SIZE == PREAMBLE_SIZE, "a record has this form");

void preamble_encode(const struct preamble *preamble, uint8_t out[PREAMBLE_SIZE])
{
    memcpy(out, magic, sizeof magic);
    out[sizeof magic] = (uint8_t)preamble->kind;
    memcpy(out + sizeof magic + 1, preamble->nonce, PREAMBLE_NONCE_SIZE);
}

size_t preamble_scanner_wants(const struct preamble_scanner *scanner)
{
    return PREAMBLE_SIZE - scanner->have;
}

static bool fits(const struct preamble_scanner *scanner, uint8_t byte)
{
    if (scanner->have < sizeof magic)
        return byte == magic[scanner->have];
    return scanner->have > sizeof magic || (byte >= PREAMBLE_OFFER && byte <= PREAMBLE_BEGUN);
}

/* Where the longest beginning of a record that now ends with byte leaves us. */
static size_t fall_back(const struct preamble_scanner *scanner, uint8_t byte)
{
    if (byte != PREAMBLE_PAD)
        return 0;
    return scanner->have == RUN ? RUN : 1;
}

bool preamble_scanner_feed(struct preamble_scanner *scanner, const uint8_t *data, size_t length,
                           struct preamble *ret_preamble)
{
    for (size_t i = 0; i < length; i++) {
        if (!fits(scanner, data[i])) {
            scanner->have = fall_back(scanner, data[i]);
            continue;
        }
        scanner->bytes[scanner->have++] = data[i];
        if (scanner->have < PREAMBLE_SIZE)
            continue;
        scanner->have = 0;
        ret_preamble->kind = (enum preamble_kind)scanner->bytes[sizeof magic];
        memcpy(ret_preamble->nonce, scanner->bytes + sizeof magic + 1, PREAMBLE_NONCE_SIZE);
        return true;
    }
    return false;
}
