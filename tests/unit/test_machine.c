/* The parts of the microVM driver that need no QEMU: how a stream begins, what a console leaves,
 * the disk's header. */
#include "base/cleanup.h"
#include "guestagent/preamble.h"
#include "suite.h"
#include "supervisord/drivers/qemu/opening.h"
#include "supervisord/drivers/qemu/overlay.h"
#include "supervisord/drivers/qemu/qemu.h"
#include "supervisord/drivers/qemu/tail.h"
#include "supervisord/memory.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static int host_end, guest_end;

static void setup(void)
{
    int ends[2];
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    host_end = ends[0];
    guest_end = ends[1];
    fcntl(host_end, F_SETFL, O_NONBLOCK);
}

static void teardown(void)
{
    loop_free(loop);
    close(guest_end);
}

/* --- records --- */

static struct preamble make(enum preamble_kind kind, uint8_t nonce)
{
    struct preamble preamble = {.kind = kind};
    memset(preamble.nonce, nonce, sizeof preamble.nonce);
    return preamble;
}

/* Reads a stream as an end does, never more than it may; gives how many bytes that took. */
static size_t scan(const uint8_t *data, size_t length, struct preamble *ret_preamble)
{
    struct preamble_scanner scanner = {0};
    size_t taken = 0;
    while (taken < length) {
        size_t piece = preamble_scanner_wants(&scanner);
        if (piece > length - taken)
            piece = length - taken;
        bool found = preamble_scanner_feed(&scanner, data + taken, piece, ret_preamble);
        taken += piece;
        if (found)
            return taken;
    }
    return 0;
}

START_TEST(a_record_is_found_behind_anything_and_nothing_after_it_is_taken)
{
    static const size_t pads[] = {0, 1, 2, 3, 4, 5, 9, 27, 28, 29, 1000};
    for (size_t i = 0; i < sizeof pads / sizeof *pads; i++)
        for (int kind = 0; kind < 2; kind++) {
            uint8_t stream[1200];
            struct preamble made = make(PREAMBLE_BEGIN, 7), found;
            memset(stream, kind ? PREAMBLE_PAD : 'h', pads[i]);
            preamble_encode(&made, stream + pads[i]);
            memset(stream + pads[i] + PREAMBLE_SIZE, 'x', 100);
            ck_assert_uint_eq(scan(stream, pads[i] + PREAMBLE_SIZE + 100, &found),
                              pads[i] + PREAMBLE_SIZE);
            ck_assert_int_eq(found.kind, PREAMBLE_BEGIN);
            ck_assert_mem_eq(found.nonce, made.nonce, sizeof made.nonce);
        }
}
END_TEST

START_TEST(what_is_no_record_is_none)
{
    uint8_t stream[PREAMBLE_SIZE];
    struct preamble made = make(PREAMBLE_OFFER, 1), found;
    for (size_t i = 0; i < 12; i++) {
        preamble_encode(&made, stream);
        stream[i] ^= 0x20;
        ck_assert_uint_eq(scan(stream, sizeof stream, &found), 0);
    }
}
END_TEST

/* --- the host's end --- */

static struct hearth_failure failure;
static int opened_fd, told;

static void on_opened(void *arg, int fd, const struct hearth_failure *why)
{
    (void)arg;
    told++;
    opened_fd = fd;
    if (why)
        failure = *why;
    loop_stop(loop);
}

static void say(enum preamble_kind kind, const uint8_t *nonce)
{
    uint8_t bytes[PREAMBLE_SIZE];
    struct preamble preamble = {.kind = kind};
    memcpy(preamble.nonce, nonce, sizeof preamble.nonce);
    preamble_encode(&preamble, bytes);
    ck_assert_int_eq(write(guest_end, bytes, sizeof bytes), sizeof bytes);
}

static struct preamble hear(enum preamble_kind kind)
{
    struct preamble_scanner scanner = {0};
    struct preamble preamble;
    for (;;) {
        uint8_t bytes[PREAMBLE_SIZE];
        ssize_t length = read(guest_end, bytes, preamble_scanner_wants(&scanner));
        if (length <= 0)
            exit(1);
        if (preamble_scanner_feed(&scanner, bytes, (size_t)length, &preamble) &&
            preamble.kind == kind)
            return preamble;
    }
}

static void open_stream(bool used, int64_t within_us)
{
    told = 0;
    opened_fd = -1;
    ck_assert_ptr_nonnull(opening_begin(loop, host_end, used, false,
                                        clock_monotonic_us() + within_us, on_opened, NULL));
    ck_assert_int_eq(told, 0);
    loop_run(loop);
    ck_assert_int_eq(told, 1);
}

/* A guest in a process of its own, as it does what `script` says. */
static pid_t guest(void (*script)(void))
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        close(host_end);
        script();
        exit(0);
    }
    return pid;
}

static void answer_after_rubbish(void)
{
    char rubbish[3000];
    uint8_t other[PREAMBLE_NONCE_SIZE] = {1};
    memset(rubbish, PREAMBLE_PAD, sizeof rubbish);
    ck_assert_int_eq(write(guest_end, rubbish, sizeof rubbish), sizeof rubbish);
    say(PREAMBLE_BEGUN, other); /* to a daemon that is dead */
    struct preamble offer = hear(PREAMBLE_OFFER);
    say(PREAMBLE_ACCEPT, offer.nonce);
    say(PREAMBLE_ACCEPT, offer.nonce); /* to a second offer */
    struct preamble begin = hear(PREAMBLE_BEGIN);
    say(PREAMBLE_BEGUN, begin.nonce);
    ck_assert_int_eq(write(guest_end, "clean", 5), 5);
}

START_TEST(stale_bytes_are_skipped_and_the_first_clean_one_is_there)
{
    char text[8] = "";
    pid_t pid = guest(answer_after_rubbish);
    open_stream(true, 20 * US_PER_S);
    ck_assert_int_ge(opened_fd, 0);
    fcntl(opened_fd, F_SETFL, 0);
    ck_assert_int_eq(recv(opened_fd, text, 5, MSG_WAITALL), 5);
    ck_assert_str_eq(text, "clean");
    close(opened_fd);
    waitpid(pid, NULL, 0);
}
END_TEST

/* As a link that takes what comes for the rest of a frame, then breaks: the bytes that it had read
 * with it are lost. */
static void swallow_a_frame(void)
{
    size_t left = (size_t)256 << 10;
    char bytes[4096];
    while (left) {
        ssize_t length = read(guest_end, bytes, left < sizeof bytes ? left : sizeof bytes);
        if (length <= 0)
            exit(1);
        left -= (size_t)length;
    }
    answer_after_rubbish();
}

START_TEST(half_a_frame_of_an_old_link_is_flushed_out)
{
    pid_t pid = guest(swallow_a_frame);
    open_stream(true, 20 * US_PER_S);
    ck_assert_int_ge(opened_fd, 0);
    close(opened_fd);
    waitpid(pid, NULL, 0);
}
END_TEST

static void wait_for_the_end(void)
{
    char bytes[4096];
    while (read(guest_end, bytes, sizeof bytes) > 0)
        continue;
}

START_TEST(a_guest_that_does_not_answer_is_given_up)
{
    pid_t pid = guest(wait_for_the_end);
    open_stream(false, 100 * US_PER_MS);
    ck_assert_int_eq(opened_fd, -1);
    ck_assert_str_eq(failure.code, "guest_unreachable");
    loop_free(loop);
    loop = NULL;
    waitpid(pid, NULL, 0);
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
}
END_TEST

/* --- tails --- */

START_TEST(a_tail_keeps_the_last_and_makes_it_printable)
{
    struct tail tail;
    char text[64], *lines;
    size_t length;
    FILE *stream = open_memstream(&lines, &length);
    for (int i = 0; i < 3000; i++)
        fprintf(stream, "line %d\r\n", i);
    fprintf(stream, "\x1b[31mthe\n\n end \xc3\xa4\n");
    fclose(stream);
    ck_assert_uint_gt(length, TAIL_SIZE);
    ck_assert_int_eq(write(guest_end, lines, length), length);
    free(lines);
    tail_init(&tail, loop);
    ck_assert_int_eq(tail_follow(&tail, dup(host_end)), 0);
    tail_end(&tail); /* takes one ring's worth */
    ck_assert_int_eq(tail_follow(&tail, dup(host_end)), 0);
    tail_end(&tail);
    ck_assert_int_eq(tail_follow(&tail, host_end), 0);
    tail_end(&tail);
    tail_text(&tail, text, 25);
    ck_assert_str_eq(text, "2999 ?[31mthe end ??");
    tail_free(&tail);
}
END_TEST

/* --- overlays --- */

START_TEST(an_overlay_is_what_qemu_takes_for_one)
{
    char path[] = "/tmp/hearth-overlay-XXXXXX", command[200];
    auto_close int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(overlay_write(fd, UINT64_C(5) << 30), 0);
    snprintf(command, sizeof command,
             "qemu-img check -q %s && qemu-img info --output=json %s | grep -q 5368709120", path,
             path);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(overlay_write(fd, UINT64_C(1) << 50), -27);
    unlink(path);
}
END_TEST

/* --- kernel vsock, on a host that has the device --- */

/* NULL: it cannot be had. */
static const struct vm_transport *chosen(const struct qemu_driver *driver, const char *choice)
{
    const struct vm_transport *transport = NULL;
    return transport_choose(&transport, driver, choice, &failure) ? NULL : transport;
}

START_TEST(vsock_is_taken_where_its_device_opens)
{
    char path[] = "/tmp/hearth-vsock-XXXXXX";
    auto_close int device = mkstemp(path);
    auto_arguments struct arguments arguments = {0};
    struct qemu_driver driver = {.config = {.vhost_vsock = path}};
    struct guest machine = {.index = 5};
    struct qemu_guest guest = {.driver = &driver, .guest = &machine, .agent_fd = -1};
    const struct vm_transport *transport = NULL;
    ck_assert_int_ge(device, 0);
    ck_assert_int_eq(transport_choose(&transport, &driver, "auto", &failure), 0);
    ck_assert_str_eq(transport->execution_mode, "guest_vsock");
    ck_assert_ptr_eq(transport_by_name(transport->name), transport);
    ck_assert_ptr_eq(chosen(&driver, "vsock"), transport);
    ck_assert_ptr_eq(chosen(&driver, "vhost-vsock"), transport);
    ck_assert_str_eq(chosen(&driver, "serial")->execution_mode, "guest_serial");
    ck_assert_int_eq(transport->prepare(&guest, &failure), 0);
    ck_assert_int_ge(guest.agent_fd, 0);
    close(guest.agent_fd);
    transport->add_arguments(&guest, &arguments);
    ck_assert_str_eq(arguments.items[1], "vhost-vsock-device,vhostfd=5,guest-cid=65541");
    unlink(path);
    ck_assert_int_eq(transport_choose(&transport, &driver, "auto", &failure), 0);
    ck_assert_str_eq(transport->execution_mode, "guest_serial");
    ck_assert_ptr_null(chosen(&driver, "vhost-vsock"));
    ck_assert_ptr_nonnull(strstr(failure.detail, "cannot be opened"));
    /* Where a build of vhost-device-vsock would be, there is none; each test has a process. */
    setenv("HOME", "/nonexistent", 1);
    setenv("XDG_CACHE_HOME", "/nonexistent", 1);
    ck_assert_int_eq(transport_choose(&transport, &driver, "vsock", &failure), HEARTH_EUNSUPPORTED);
    ck_assert_str_eq(failure.code, "transport_unavailable");
    ck_assert_ptr_nonnull(strstr(failure.detail, "vhost-device-vsock"));
    ck_assert_ptr_null(chosen(&driver, "vhost-user-vsock"));
    ck_assert_ptr_null(chosen(&driver, "pigeon"));
}
END_TEST

/* --- whose turn it is --- */

static char turns[32];

static void on_turn(void *arg)
{
    const struct qemu_guest *guest = arg;
    strcat(turns, guest->guest_id);
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

static void run_turn(void)
{
    loop_post(loop, stop_loop, loop);
    loop_run(loop);
}

START_TEST(machines_come_up_a_few_at_a_time_and_the_background_last)
{
    struct qemu_driver driver = {.config = {.loop = loop}};
    struct qemu_guest guests[5] = {0};
    gate_init(&driver);
    ck_assert_uint_ge(driver.gate.places, 2);
    driver.gate.places = 2;
    for (int i = 0; i < 5; i++) {
        guests[i].driver = &driver;
        guests[i].guest_id[0] = (char)('a' + i);
    }
    gate_leave(&guests[0]); /* has not entered */
    gate_enter(&guests[0], false, on_turn);
    gate_enter(&guests[1], true, on_turn);
    gate_enter(&guests[2], true, on_turn);
    gate_enter(&guests[3], false, on_turn);
    gate_enter(&guests[4], false, on_turn);
    ck_assert_str_eq(turns, "ab");
    gate_leave(&guests[0]);
    gate_leave(&guests[0]);
    run_turn();
    ck_assert_str_eq(turns, "abd");
    gate_leave(&guests[1]);
    gate_leave(&guests[3]);
    run_turn();
    ck_assert_str_eq(turns, "abdec");
    gate_leave(&guests[2]);
    gate_leave(&guests[4]);
    ck_assert_uint_eq(driver.gate.taken, 0);
}
END_TEST

/* --- what the kernel says of memory --- */

START_TEST(memory_is_as_the_kernel_tells)
{
    ck_assert_uint_eq(memory_parse_available("MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"),
                      2048);
    ck_assert_uint_eq(memory_parse_available("MemTotal: 9 kB\n"), UINT64_MAX);
    ck_assert_uint_eq(memory_parse_pressure("some avg10=31.40 avg60=0.00 avg300=0.00 total=1\n"
                                            "full avg10=7.00 avg60=0.00 avg300=0.00 total=1\n"),
                      31);
    ck_assert_uint_eq(memory_parse_pressure(""), 0);
    ck_assert_uint_gt(memory_look().available_mib, 0);
    ck_assert_uint_eq(memory_parse_own("185344 18200 3864 2 0 29000 0\n", 4096), 56);
    ck_assert_uint_eq(memory_parse_own("185344 3864 18200 2 0 29000 0\n", 4096), 0);
    ck_assert_uint_eq(memory_parse_own("", 4096), 0);
    ck_assert_uint_eq(memory_of_process_mib(0), 0);
}
END_TEST

/* --- what a template is known by --- */

START_TEST(what_qemu_is_told_tells_templates_apart)
{
    struct qemu_driver driver = {.program = "/usr/bin/qemu-system-x86_64"};
    struct qemu_guest one = {.driver = &driver,
                             .guest_id = "gu_1",
                             .transport = &transport_serial,
                             .accelerator = "tcg",
                             .vcpu_count = 1,
                             .mem_mib = 256,
                             .template_ram_fd = -1,
                             .template_state_fd = -1};
    struct qemu_guest other = one;
    char first[QEMU_DIGEST_SIZE], second[QEMU_DIGEST_SIZE];
    snprintf(other.guest_id, sizeof other.guest_id, "gu_2");
    other.template_ram_fd = other.template_state_fd = 9;
    other.timestamp_khz = 2000000;
    qemu_command_digest(&one, first);
    qemu_command_digest(&other, second);
    ck_assert_str_eq(first, second);
    other.accelerator = "kvm";
    qemu_command_digest(&other, second);
    ck_assert_str_ne(first, second);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine");
    TCase *cases = tcase_create("machine");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_record_is_found_behind_anything_and_nothing_after_it_is_taken);
    tcase_add_test(cases, what_is_no_record_is_none);
    tcase_add_test(cases, stale_bytes_are_skipped_and_the_first_clean_one_is_there);
    tcase_add_test(cases, half_a_frame_of_an_old_link_is_flushed_out);
    tcase_add_test(cases, a_guest_that_does_not_answer_is_given_up);
    tcase_add_test(cases, a_tail_keeps_the_last_and_makes_it_printable);
    tcase_add_test(cases, an_overlay_is_what_qemu_takes_for_one);
    tcase_add_test(cases, vsock_is_taken_where_its_device_opens);
    tcase_add_test(cases, memory_is_as_the_kernel_tells);
    tcase_add_test(cases, what_qemu_is_told_tells_templates_apart);
    tcase_add_test(cases, machines_come_up_a_few_at_a_time_and_the_background_last);
    suite_add_tcase(suite, cases);
    return run_and_free(suite);
}
