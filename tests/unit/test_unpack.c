/* What a hostile agent's messages cost. */
#include "suite.h"

#include "agent.pb-c.h"
#include "guestagent/link.h"
#include "guestagent/unpack.h"

#include <string.h>

/* An empty message among others, as often as there is room for. */
START_TEST(a_message_of_nothing_but_empty_ones_is_refused)
{
    const ProtobufCMessageDescriptor *const types[] = {
        &hearth__agent__v1__file_list_reply__descriptor,
        &hearth__agent__v1__shell_list_reply__descriptor,
        &hearth__agent__v1__exec_list_reply__descriptor,
        &hearth__agent__v1__service_watch_reply__descriptor,
        &hearth__agent__v1__tree_scan_reply__descriptor,
    };
    uint8_t *bytes = malloc(LINK_MESSAGE_MAX);
    for (size_t i = 0; i < LINK_MESSAGE_MAX; i += 2) {
        bytes[i] = 1 << 3 | 2;
        bytes[i + 1] = 0;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        ck_assert_ptr_null(unpack_bounded(types[i], LINK_MESSAGE_MAX, bytes));
    /* The same of fields that nobody knows, and of one that comes again and again. */
    for (size_t i = 0; i < LINK_MESSAGE_MAX; i += 2)
        bytes[i] = 15 << 3 | 2;
    ck_assert_ptr_null(unpack_bounded(types[0], LINK_MESSAGE_MAX, bytes));
    for (size_t i = 0; i < LINK_MESSAGE_MAX; i += 2)
        bytes[i] = 1 << 3 | 2;
    ck_assert_ptr_null(
        unpack_bounded(&hearth__agent__v1__file_read_reply__descriptor, LINK_MESSAGE_MAX, bytes));
    free(bytes);
}
END_TEST

static void check_same(const ProtobufCMessage *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(length);
    protobuf_c_message_pack(message, bytes);
    ProtobufCMessage *again = unpack_bounded(message->descriptor, length, bytes);
    ck_assert_ptr_nonnull(again);
    ck_assert_uint_eq(protobuf_c_message_get_packed_size(again), length);
    protobuf_c_message_free_unpacked(again, NULL);
    free(bytes);
}

START_TEST(the_longest_list_is_taken)
{
    enum { ENTRIES = 10000 };
    static Hearth__Agent__V1__FileEntry entries[ENTRIES], *list[ENTRIES];
    char path[] = "d/f", target[] = "t";
    Hearth__Agent__V1__FileListReply reply = HEARTH__AGENT__V1__FILE_LIST_REPLY__INIT;
    for (size_t i = 0; i < ENTRIES; i++) {
        hearth__agent__v1__file_entry__init(&entries[i]);
        entries[i].path = (ProtobufCBinaryData){.data = (uint8_t *)path, .len = sizeof path - 1};
        entries[i].link_target =
            (ProtobufCBinaryData){.data = (uint8_t *)target, .len = sizeof target - 1};
        list[i] = &entries[i];
    }
    reply.entries = list;
    reply.n_entries = ENTRIES;
    check_same(&reply.base);
}
END_TEST

START_TEST(the_largest_output_is_taken)
{
    Hearth__Agent__V1__ExecState state = HEARTH__AGENT__V1__EXEC_STATE__INIT;
    Hearth__Agent__V1__ExecOutput output = HEARTH__AGENT__V1__EXEC_OUTPUT__INIT;
    Hearth__Agent__V1__ExecSegment segment = HEARTH__AGENT__V1__EXEC_SEGMENT__INIT,
                                   *segments[] = {&segment};
    segment.data.len = (size_t)3 << 20;
    segment.data.data = calloc(1, segment.data.len);
    output.segments = segments;
    output.n_segments = 1;
    state.stdout = state.stderr = &output;
    check_same(&state.base);
    free(segment.data.data);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("unpack");
    TCase *bounds = tcase_create("bounds");
    tcase_set_timeout(bounds, 60);
    tcase_add_test(bounds, a_message_of_nothing_but_empty_ones_is_refused);
    tcase_add_test(bounds, the_longest_list_is_taken);
    tcase_add_test(bounds, the_largest_output_is_taken);
    suite_add_tcase(suite, bounds);
    return suite;
}

int main(void)
{
    return run_and_free(suite());
}
