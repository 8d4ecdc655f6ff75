#include "guestagent/agent/ring.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Every ring is compared with what a plain copy of the whole output says it must hold. */
static void check_ring(uint64_t head, uint64_t tail, size_t total, size_t step)
{
    struct ring ring;
    char *whole = malloc(total + 1);
    ring_init(&ring, head, tail);
    for (size_t i = 0; i < total; i++)
        whole[i] = (char)('a' + (i * 7 + i / 26) % 26);
    for (size_t at = 0; at < total; at += step)
        ring_append(&ring, whole + at, total - at < step ? total - at : step);
    ck_assert_uint_eq(ring.total, total);
    for (uint64_t offset = 0; offset <= total + 1; offset += total / 16 + 1)
        for (uint64_t max = 1; max < 2 * (head + tail); max = max * 3 + 1) {
            struct ring_segment segments[RING_SEGMENTS_MAX];
            uint64_t next, left = max, after = offset;
            unsigned count = ring_read(&ring, offset, max, segments, &next);
            for (unsigned i = 0; i < count; i++) {
                ck_assert_uint_ge(segments[i].offset, after);
                ck_assert_uint_le(segments[i].offset + segments[i].length, total);
                ck_assert(
                    memcmp(segments[i].data, whole + segments[i].offset, segments[i].length) == 0);
                after = segments[i].offset + segments[i].length;
                left -= segments[i].length;
            }
            ck_assert_uint_le(left, max);
            ck_assert_uint_ge(next, offset);
            if (left && offset < total)
                ck_assert_uint_eq(next, total);
        }
    if (total <= head + tail) {
        struct ring_segment segments[RING_SEGMENTS_MAX];
        uint64_t next, bytes = 0;
        unsigned count = ring_read(&ring, 0, UINT64_MAX, segments, &next);
        for (unsigned i = 0; i < count; i++)
            bytes += segments[i].length;
        ck_assert_uint_eq(bytes, total);
    }
    ck_assert_uint_le(ring_memory(&ring), head + tail);
    ring_free(&ring);
    free(whole);
}

START_TEST(it_keeps_the_first_and_the_last_bytes_whatever_comes_in_whatever_pieces)
{
    static const size_t totals[] = {0, 1, 99, 100, 101, 299, 300, 301, 5000, 40000};
    static const size_t steps[] = {1, 3, 64, 137, 299, 4096, 50000};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
        for (size_t j = 0; j < sizeof steps / sizeof *steps; j++) {
            check_ring(100, 200, totals[i], steps[j]);
            check_ring(4096, 8192, totals[i], steps[j]);
            check_ring(5000, 5000, totals[i], steps[j]);
        }
}
END_TEST

START_TEST(a_hole_lies_between_head_and_tail)
{
    struct ring ring;
    struct ring_segment segments[RING_SEGMENTS_MAX];
    uint64_t next;
    ring_init(&ring, 3, 3);
    ring_append(&ring, "0123456789", 10);
    ck_assert_uint_eq(ring_read(&ring, 0, 100, segments, &next), 2);
    ck_assert(memcmp(segments[0].data, "012", 3) == 0);
    ck_assert_uint_eq(segments[1].offset, 7);
    ck_assert(memcmp(segments[1].data, "789", 3) == 0);
    ck_assert_uint_eq(next, 10);
    ring_free(&ring);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *test_case = tcase_create("ring");
    tcase_set_timeout(test_case, 60);
    tcase_add_test(test_case,
                   it_keeps_the_first_and_the_last_bytes_whatever_comes_in_whatever_pieces);
    tcase_add_test(test_case, a_hole_lies_between_head_and_tail);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
