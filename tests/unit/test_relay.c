/* What a machine sends on its way to passt, over real sockets. */
#include "suite.h"
#include "supervisord/net/relay.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH "\0\0\0\x36"
#define HEAD "\x52\x54\0\0\x02\x02\x52\x54\0\0\x02\x0f\x08\0"
#define SYN_TO(address)                                                                            \
    LENGTH HEAD "\x45\0\0\x28\0\0\0\0\x40\x06\0\0\x0a\0\x02\x0f" address                           \
                "\x10\0\x1e\x61\0\0\0\x05\0\0\0\0\x50\x02\0\0\0\0\0\0"
#define FRAME_SIZE (4 + 14 + 40)
#define PUBLIC "\x08\x08\x04\x64"
#define PRIVATE "\x0a\x09\x09\x09"
#define NAMES "\x0a\0\x02\x03"

static struct net_log records;
static struct gate gate;
static struct relay relay;
static int machine, passt;

static void begin(const char *policy)
{
    int ends[2];
    records = (struct net_log){0};
    gate = (struct gate){.log = &records};
    ck_assert(net_policy_parse(&gate.policy, policy));
    relay.gate = &gate;
    relay.up.ready = relay.up.length = relay.down.ready = relay.down.length = 0;
    for (int side = 0; side < RELAY_SIDES; side++) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
        relay.fds[side] = ends[0];
        *(side == RELAY_MACHINE ? &machine : &passt) = ends[1];
    }
}

static void end(void)
{
    close(machine);
    close(passt);
    close(relay.fds[0]);
    close(relay.fds[1]);
}

static void send_all(int fd, const void *data, size_t length)
{
    ck_assert_int_eq(write(fd, data, length), (ssize_t)length);
}

START_TEST(frames_pass_whole_however_they_come)
{
    static const char frame[] = SYN_TO(PUBLIC);
    char got[FRAME_SIZE];
    begin("open\n.\n");
    for (size_t i = 0; i < FRAME_SIZE; i++) {
        ck_assert_int_eq(read(passt, got, sizeof got), -1);
        send_all(machine, frame + i, 1);
        ck_assert(relay_run(&relay));
    }
    ck_assert_int_eq(read(passt, got, sizeof got), FRAME_SIZE);
    ck_assert_mem_eq(got, frame, FRAME_SIZE);
    ck_assert_uint_eq(records.denied, 0);
    end();
}
END_TEST

START_TEST(what_is_denied_is_taken_out_counted_and_answered_between_frames)
{
    static const char sent[] = SYN_TO(PRIVATE) SYN_TO(PUBLIC);
    static const char back[] = SYN_TO(NAMES) SYN_TO(NAMES);
    char got[3 * FRAME_SIZE];
    begin("open\n.\n");
    send_all(passt, back, FRAME_SIZE + 7); /* one, and the beginning of another */
    ck_assert(relay_run(&relay));
    send_all(machine, sent, sizeof sent - 1);
    ck_assert(relay_run(&relay));
    send_all(passt, back + 7, FRAME_SIZE - 7);
    ck_assert(relay_run(&relay));
    ck_assert_int_eq(read(passt, got, sizeof got), FRAME_SIZE);
    ck_assert_mem_eq(got, sent + FRAME_SIZE, FRAME_SIZE);
    ck_assert_int_eq(read(machine, got, sizeof got), 3 * FRAME_SIZE);
    ck_assert_mem_eq(got, back, FRAME_SIZE);
    ck_assert_mem_eq(got + FRAME_SIZE, LENGTH "\x52\x54\0\0\x02\x0f\x52\x54\0\0\x02\x02\x08\0\x45",
                     19);
    ck_assert_mem_eq(got + FRAME_SIZE + 4 + 14 + 12, PRIVATE "\x0a\0\x02\x0f", 8);
    ck_assert_mem_eq(got + 2 * FRAME_SIZE, back, FRAME_SIZE);
    ck_assert_uint_eq(records.denied, 1);
    ck_assert_uint_eq(records.entries[0].address, 0x0a090909);
    end();
}
END_TEST

START_TEST(a_list_and_its_names_decide_and_the_name_server_is_reached)
{
    static const char sent[] = SYN_TO(PUBLIC) SYN_TO(NAMES);
    char got[3 * FRAME_SIZE];
    begin("listed\ngood.example\n.\n");
    send_all(machine, sent, sizeof sent - 1);
    ck_assert(relay_run(&relay));
    ck_assert_int_eq(read(passt, got, sizeof got), FRAME_SIZE);
    ck_assert_mem_eq(got, sent + FRAME_SIZE, FRAME_SIZE);
    gate.known[3] = (struct gate_known){.address = 0x08080464, .routed = true, .name = "a"};
    send_all(machine, sent, FRAME_SIZE);
    ck_assert(relay_run(&relay));
    ck_assert_int_eq(read(passt, got, sizeof got), FRAME_SIZE);
    ck_assert_uint_eq(records.denied, 1);
    end();
}
END_TEST

START_TEST(an_end_and_what_is_no_frame_end_it)
{
    begin("open\n.\n");
    send_all(machine, "\0\x02\0\0", 4);
    ck_assert(!relay_run(&relay));
    end();
    begin("open\n.\n");
    send_all(machine, LENGTH, 4);
    ck_assert(relay_run(&relay));
    shutdown(machine, SHUT_WR);
    ck_assert(!relay_run(&relay));
    end();
}
END_TEST

/* Nobody takes anything: it reads until it is full, and says so. */
START_TEST(what_is_held_is_bounded)
{
    static const char frame[] = SYN_TO(PUBLIC);
    struct pollfd watched[RELAY_SIDES];
    size_t sent = 0;
    begin("open\n.\n");
    do {
        while (write(machine, frame, FRAME_SIZE) == FRAME_SIZE)
            sent += FRAME_SIZE;
        ck_assert(relay_run(&relay));
        relay_watch(&relay, watched);
    } while (watched[RELAY_MACHINE].events & POLLIN);
    ck_assert_uint_eq(relay.up.length, RELAY_SIZE);
    ck_assert_uint_gt(sent, RELAY_SIZE);
    ck_assert_int_eq(watched[RELAY_PASST].events, POLLIN | POLLOUT);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relay");
    TCase *test_case = tcase_create("relay");
    tcase_add_test(test_case, frames_pass_whole_however_they_come);
    tcase_add_test(test_case, what_is_denied_is_taken_out_counted_and_answered_between_frames);
    tcase_add_test(test_case, a_list_and_its_names_decide_and_the_name_server_is_reached);
    tcase_add_test(test_case, an_end_and_what_is_no_frame_end_it);
    tcase_add_test(test_case, what_is_held_is_bounded);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
