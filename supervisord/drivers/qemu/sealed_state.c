#include "supervisord/drivers/qemu/sealed_state.h"

#include "base/clock.h"
#include "base/path_at.h"
#include "base/secret_memory.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)128 << 10)
#define TAG_BYTES crypto_secretstream_xchacha20poly1305_ABYTES
#define POLL_MS 100
#define CIPHER_STACK 8192 /* the cipher spills parts of what it works on there */

_Static_assert(SEALED_STATE_KEY_SIZE == crypto_secretstream_xchacha20poly1305_KEYBYTES, "its key");

/* In secret memory. */
struct sealed_state {
    unsigned char key[SEALED_STATE_KEY_SIZE];
    crypto_secretstream_xchacha20poly1305_state stream;
    char owner[64]; /* goes into each chunk's tag */
    size_t owner_length;
    unsigned char clear[CHUNK_BYTES], sealed[CHUNK_BYTES + TAG_BYTES];
};

struct sealed_state *sealed_state_new(const unsigned char key[SEALED_STATE_KEY_SIZE],
                                      const char *guest_id)
{
    struct sealed_state *state = secret_memory_new(sizeof *state);
    if (!state)
        return NULL;
    memcpy(state->key, key, sizeof state->key);
    int length = snprintf(state->owner, sizeof state->owner, "hearth state 1 %s", guest_id);
    state->owner_length =
        (size_t)length < sizeof state->owner ? (size_t)length : sizeof state->owner - 1;
    return state;
}

void sealed_state_free(struct sealed_state *state)
{
    secret_memory_free(state, sizeof *state);
}

/* 1: the pipe has room or bytes, or has ended. */
static int await(const struct sealed_move *move, int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    while (!atomic_load(move->abandoned)) {
        int ready = poll(&poll_fd, 1, POLL_MS);
        if (ready > 0)
            return 1;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (clock_monotonic_us() >= move->deadline_us)
            return -ETIMEDOUT;
    }
    return -ECANCELED;
}

/* --- sealing --- */

/* Fills the chunk up to the pipe's end; gives the bytes, or a negative errno. */
static ssize_t take_chunk(struct sealed_state *state, const struct sealed_move *move)
{
    size_t length = 0;
    while (length < CHUNK_BYTES) {
        int ready = await(move, move->from_fd, POLLIN);
        if (ready < 0)
            return ready;
        ssize_t taken = read(move->from_fd, state->clear + length, CHUNK_BYTES - length);
        if (taken < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (taken == 0)
            break;
        length += taken > 0 ? (size_t)taken : 0;
    }
    return (ssize_t)length;
}

/* One chunk; 1: it was the last, which is the only one that is not full. */
static int seal_chunk(struct sealed_state *state, const struct sealed_move *move, uint64_t *total)
{
    ssize_t length = take_chunk(state, move);
    if (length < 0)
        return (int)length;
    *total += (uint64_t)length;
    if (*total > move->limit)
        return -EFBIG;
    bool last = (size_t)length < CHUNK_BYTES;
    crypto_secretstream_xchacha20poly1305_push(
        &state->stream, state->sealed, NULL, state->clear, (unsigned long long)length,
        (const unsigned char *)state->owner, state->owner_length,
        last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL
             : crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
    int error = path_write_all(move->to_fd, state->sealed, (size_t)length + TAG_BYTES);
    return error ? error : last;
}

int sealed_state_seal(struct sealed_state *state, const struct sealed_move *move,
                      struct hearth_failure *failure)
{
    unsigned char header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
    uint64_t total = 0;
    crypto_secretstream_xchacha20poly1305_init_push(&state->stream, header, state->key);
    int result = path_write_all(move->to_fd, header, sizeof header);
    while (!result)
        result = seal_chunk(state, move, &total);
    sodium_stackzero(CIPHER_STACK);
    if (result > 0)
        return 0;
    if (result == -EFBIG)
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "suspend_failed",
                           "QEMU saves more than the machine has");
    return hearth_fail(failure, HEARTH_EUNAVAILABLE, "suspend_failed",
                       "the machine cannot be kept: %s", strerror(-result));
}

/* --- opening --- */

static int give_chunk(const struct sealed_state *state, const struct sealed_move *move,
                      size_t length)
{
    const unsigned char *data = state->clear;
    while (length) {
        int ready = await(move, move->to_fd, POLLOUT);
        if (ready < 0)
            return ready;
        ssize_t written = write(move->to_fd, data, length);
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        data += written > 0 ? written : 0;
        length -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

/* One chunk; 1: it was the last, as its seal says: an end of the file before that is refused. */
static int open_chunk(struct sealed_state *state, const struct sealed_move *move)
{
    unsigned char tag;
    unsigned long long clear_length;
    ssize_t length = path_read_all(move->from_fd, state->sealed, sizeof state->sealed);
    if (length < 0)
        return (int)length;
    if ((size_t)length < TAG_BYTES ||
        crypto_secretstream_xchacha20poly1305_pull(
            &state->stream, state->clear, &clear_length, &tag, state->sealed,
            (unsigned long long)length, (const unsigned char *)state->owner, state->owner_length))
        return -EBADMSG;
    int error = give_chunk(state, move, (size_t)clear_length);
    return error ? error : tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
}

int sealed_state_open(struct sealed_state *state, const struct sealed_move *move,
                      struct hearth_failure *failure)
{
    unsigned char header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
    ssize_t length = path_read_all(move->from_fd, header, sizeof header);
    int result = length < 0 ? (int)length : 0;
    if (!result && (length != sizeof header || crypto_secretstream_xchacha20poly1305_init_pull(
                                                   &state->stream, header, state->key)))
        result = -EBADMSG;
    while (!result)
        result = open_chunk(state, move);
    sodium_stackzero(CIPHER_STACK);
    if (result > 0)
        return 0;
    if (result == -EPIPE || result == -ECANCELED || result == -ETIMEDOUT)
        return hearth_fail(failure, HEARTH_ECANCELLED, NULL, "QEMU has not taken all of it");
    hearth_fail(failure, HEARTH_EIO, "suspend_unreadable",
                "what the workspace was suspended to cannot be opened: %s",
                result == -EBADMSG ? "it was altered or cut short" : strerror(-result));
    hearth_failure_hint(failure, "Start it with workspace_start: its disk is there, as after a "
                                 "power cut.");
    return HEARTH_EIO;
}
