/* What machines are saved to: sealed in chunks, and opened as what it was or not at all. */
#include "base/clock.h"
#include "suite.h"
#include "supervisord/drivers/qemu/sealed_state.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)128 << 10)
#define SEALED_CHUNK (CHUNK + crypto_secretstream_xchacha20poly1305_ABYTES)
#define HEADER ((off_t)crypto_secretstream_xchacha20poly1305_HEADERBYTES)
#define PIPE_SIZE (1 << 20)
#define WORD "a word of the machine's memory"

static const unsigned char key[SEALED_STATE_KEY_SIZE] = "a key of this one time and state";
static unsigned char clear[PIPE_SIZE], opened[PIPE_SIZE];
static atomic_bool abandoned;

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    abandoned = false;
    for (size_t i = 0; i < sizeof clear; i += 64)
        memcpy(clear + i, WORD, sizeof WORD);
    for (size_t i = 0; i < sizeof clear; i += CHUNK) /* chunks differ */
        memcpy(clear + i + 40, &i, sizeof i);
}

static void make_pipe(int ends[2])
{
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
}

static int seal_to(int file, size_t length, uint64_t limit, struct hearth_failure *failure)
{
    struct sealed_state *state = sealed_state_new(key, "gu_one");
    int ends[2];
    make_pipe(ends);
    ck_assert_int_eq(write(ends[1], clear, length), (ssize_t)length);
    close(ends[1]);
    const struct sealed_move move = {.from_fd = ends[0],
                                     .to_fd = file,
                                     .limit = limit,
                                     .deadline_us = clock_monotonic_us() + 60 * US_PER_S,
                                     .abandoned = &abandoned};
    int error = sealed_state_seal(state, &move, failure);
    sealed_state_free(state);
    close(ends[0]);
    return error;
}

static int seal(size_t length)
{
    int file = memfd_create("sealed", MFD_CLOEXEC);
    ck_assert_int_eq(seal_to(file, length, PIPE_SIZE, NULL), 0);
    return file;
}

/* Gives the bytes that came out of the pipe. */
static size_t open_as(int file, const unsigned char *with, const char *guest_id, int *ret_error,
                      struct hearth_failure *failure)
{
    struct sealed_state *state = sealed_state_new(with, guest_id);
    int ends[2];
    make_pipe(ends);
    const struct sealed_move move = {.from_fd = file,
                                     .to_fd = ends[1],
                                     .deadline_us = clock_monotonic_us() + 60 * US_PER_S,
                                     .abandoned = &abandoned};
    ck_assert_int_eq(lseek(file, 0, SEEK_SET), 0);
    *ret_error = sealed_state_open(state, &move, failure);
    sealed_state_free(state);
    close(ends[1]);
    size_t length = 0;
    for (ssize_t taken; (taken = read(ends[0], opened + length, sizeof opened - length)) > 0;)
        length += (size_t)taken;
    close(ends[0]);
    return length;
}

static void refuses(int file, const unsigned char *with, const char *guest_id, size_t at_most)
{
    struct hearth_failure failure;
    int error;
    size_t length = open_as(file, with, guest_id, &error, &failure);
    ck_assert_int_eq(error, HEARTH_EIO);
    ck_assert_str_eq(failure.code, "suspend_unreadable");
    ck_assert_uint_le(length, at_most);
    ck_assert_int_eq(memcmp(opened, clear, length), 0);
    close(file);
}

START_TEST(what_is_sealed_is_opened_and_shows_nothing_meanwhile)
{
    const size_t lengths[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 77};
    unsigned char *sealed = malloc(PIPE_SIZE);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int error, file = seal(lengths[i]);
        ssize_t length = pread(file, sealed, PIPE_SIZE, 0);
        ck_assert_int_gt(length, (ssize_t)lengths[i]);
        ck_assert_ptr_null(memmem(sealed, (size_t)length, WORD, 8));
        ck_assert_uint_eq(open_as(file, key, "gu_one", &error, NULL), lengths[i]);
        ck_assert_int_eq(error, 0);
        ck_assert_int_eq(memcmp(opened, clear, lengths[i]), 0);
        close(file);
    }
    free(sealed);
}
END_TEST

START_TEST(what_was_altered_is_refused_and_nothing_after_it_comes_out)
{
    const off_t places[] = {0, HEADER, HEADER + SEALED_CHUNK - 1, HEADER + SEALED_CHUNK,
                            HEADER + 3 * SEALED_CHUNK + 70};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int file = seal(3 * CHUNK + 77);
        unsigned char byte;
        ck_assert_int_eq(pread(file, &byte, 1, places[i]), 1);
        byte ^= 1;
        ck_assert_int_eq(pwrite(file, &byte, 1, places[i]), 1);
        refuses(file, key, "gu_one",
                places[i] < HEADER ? 0 : (size_t)(places[i] - HEADER) / SEALED_CHUNK * CHUNK);
    }
}
END_TEST

START_TEST(what_was_cut_or_grew_is_refused)
{
    const size_t ends[] = {0,
                           10,
                           HEADER,
                           HEADER + SEALED_CHUNK,
                           HEADER + 3 * SEALED_CHUNK,
                           HEADER + 3 * SEALED_CHUNK + 50};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int file = seal(3 * CHUNK + 77);
        ck_assert_int_eq(ftruncate(file, (off_t)ends[i]), 0);
        refuses(file, key, "gu_one", 3 * CHUNK);
    }
    int file = seal(3 * CHUNK + 77);
    struct stat status;
    ck_assert_int_eq(fstat(file, &status), 0);
    ck_assert_int_eq(pwrite(file, "more", 4, status.st_size), 4);
    refuses(file, key, "gu_one", 3 * CHUNK);
}
END_TEST

START_TEST(chunks_in_another_order_are_refused)
{
    int file = seal(3 * CHUNK);
    unsigned char *one = malloc(SEALED_CHUNK), *two = malloc(SEALED_CHUNK);
    ck_assert_int_eq(pread(file, one, SEALED_CHUNK, HEADER), SEALED_CHUNK);
    ck_assert_int_eq(pread(file, two, SEALED_CHUNK, HEADER + SEALED_CHUNK), SEALED_CHUNK);
    ck_assert_int_eq(pwrite(file, two, SEALED_CHUNK, HEADER), SEALED_CHUNK);
    ck_assert_int_eq(pwrite(file, one, SEALED_CHUNK, HEADER + SEALED_CHUNK), SEALED_CHUNK);
    refuses(file, key, "gu_one", 0);
    free(one);
    free(two);
}
END_TEST

START_TEST(another_key_and_another_guest_are_refused)
{
    unsigned char other[SEALED_STATE_KEY_SIZE];
    memcpy(other, key, sizeof other);
    other[31] ^= 1;
    refuses(seal(CHUNK), other, "gu_one", 0);
    refuses(seal(CHUNK), key, "gu_two", 0);
}
END_TEST

START_TEST(more_than_there_can_be_and_a_full_disk_are_told)
{
    struct hearth_failure failure;
    int file = memfd_create("sealed", MFD_CLOEXEC);
    ck_assert_int_eq(seal_to(file, CHUNK + 1, CHUNK, &failure), HEARTH_EUNAVAILABLE);
    ck_assert_str_eq(failure.code, "suspend_failed");
    close(file);
    file = open("/dev/full", O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(seal_to(file, CHUNK + 1, PIPE_SIZE, &failure), HEARTH_EUNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(failure.detail, strerror(ENOSPC)));
    close(file);
}
END_TEST

START_TEST(what_nobody_wants_or_takes_any_more_ends)
{
    int error, file = seal(3 * CHUNK), ends[2];
    struct sealed_state *state = sealed_state_new(key, "gu_one");
    make_pipe(ends);
    close(ends[0]);
    const struct sealed_move move = {.from_fd = file,
                                     .to_fd = ends[1],
                                     .deadline_us = clock_monotonic_us() + 60 * US_PER_S,
                                     .abandoned = &abandoned};
    ck_assert_int_eq(lseek(file, 0, SEEK_SET), 0);
    ck_assert_int_eq(sealed_state_open(state, &move, NULL), HEARTH_ECANCELLED);
    sealed_state_free(state);
    close(ends[1]);
    abandoned = true;
    ck_assert_uint_eq(open_as(file, key, "gu_one", &error, NULL), 0);
    ck_assert_int_eq(error, HEARTH_ECANCELLED);
    close(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sealed_state");
    TCase *cases = tcase_create("sealed_state");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, NULL);
    tcase_add_test(cases, what_is_sealed_is_opened_and_shows_nothing_meanwhile);
    tcase_add_test(cases, what_was_altered_is_refused_and_nothing_after_it_comes_out);
    tcase_add_test(cases, what_was_cut_or_grew_is_refused);
    tcase_add_test(cases, chunks_in_another_order_are_refused);
    tcase_add_test(cases, another_key_and_another_guest_are_refused);
    tcase_add_test(cases, more_than_there_can_be_and_a_full_disk_are_told);
    tcase_add_test(cases, what_nobody_wants_or_takes_any_more_ends);
    suite_add_tcase(suite, cases);
    return run_and_free(suite);
}
