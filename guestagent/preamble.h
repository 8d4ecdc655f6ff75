/* How a clean byte stream begins on a transport that is one pipe for the guest's whole life
 * (virtio-serial): bytes of an earlier connection may still be under way in either direction when a
 * new one begins. Four records of fixed size settle where the new stream starts; whatever lies
 * between them is skipped, and nothing after them is lost:
 *
 *   host   OFFER nonce    again and again until it is accepted
 *   guest  ACCEPT nonce   to each OFFER
 *   host   BEGIN nonce    its stream follows
 *   guest  BEGUN nonce    to the BEGIN of what it accepted last; its stream follows
 *
 * A record begins with a length that no HTTP/2 frame may have: an end that still takes the bytes
 * for an old session gives that up. PREAMBLE_PADDING bytes of PREAMBLE_PAD before an OFFER make
 * sure that they are not swallowed as the rest of a frame. Plain data, any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_PORT_NAME "hearth.agent" /* the virtio-serial port's name */
#define AGENT_VSOCK_PORT 1023          /* below 1024: no plain user of a guest can take it */
#define HOST_VSOCK_PORT 1023           /* where the host may want to hear that it listens */

#define PREAMBLE_NONCE_SIZE 16
#define PREAMBLE_SIZE 28
#define PREAMBLE_PAD 0xff
#define PREAMBLE_PADDING                                                                           \
    ((size_t)320 << 10) /* more than the largest frame that either end takes                       \
                         */

enum preamble_kind {
    PREAMBLE_OFFER = 1,
    PREAMBLE_ACCEPT,
    PREAMBLE_BEGIN,
    PREAMBLE_BEGUN,
};

struct preamble {
    enum preamble_kind kind;
    uint8_t nonce[PREAMBLE_NONCE_SIZE];
};

void preamble_encode(const struct preamble *preamble, uint8_t out[PREAMBLE_SIZE]);

/* Finds records in a stream. Zero-initialised it has seen nothing. */
struct preamble_scanner {
    uint8_t bytes[PREAMBLE_SIZE];
    size_t have;
};
/* How many bytes may be read next without reading beyond the end of a record; at least 1. */
size_t preamble_scanner_wants(const struct preamble_scanner *scanner);
/* Takes at most as many bytes. True when the last one completes a record, which is then given. */
bool preamble_scanner_feed(struct preamble_scanner *scanner, const uint8_t *data, size_t length,
                           struct preamble *ret_preamble);
