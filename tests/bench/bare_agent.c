/* The least that an agent of a machine can be: it answers on a vsock port or a virtio-serial port,
 * one request after the other. bare_agent vsock PORT | bare_agent port DEVICE
 * A request is a letter and a little-endian number of 64 bits:
 *   e     run `true` with its output captured; the answer is its exit status, a byte
 *   i N   N bytes follow, which go to FILE; the answer is a byte when they are there
 *   o N   the answer is the first N bytes of FILE */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_NAME "/workspace/bare"
#define PIECE ((size_t)64 << 10)

/* 0 where the peer has gone. */
static int read_all(int fd, void *data, size_t length)
{
    for (char *at = data; length;) {
        ssize_t got = read(fd, at, length);
        if (got <= 0)
            return 0;
        at += got;
        length -= (size_t)got;
    }
    return 1;
}

static int write_all(int fd, const void *data, size_t length)
{
    for (const char *at = data; length;) {
        ssize_t put = write(fd, at, length);
        if (put <= 0)
            return 0;
        at += put;
        length -= (size_t)put;
    }
    return 1;
}

static void drain(int fd)
{
    char data[4096];
    while (read(fd, data, sizeof data) > 0)
        ;
    close(fd);
}

static int run_true(void)
{
    int out[2], err[2], status;
    char program[] = "true", *arguments[] = {program, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        return 255;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    int error = posix_spawnp(&pid, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    drain(out[0]);
    drain(err[0]);
    if (error || waitpid(pid, &status, 0) < 0)
        return 255;
    return WEXITSTATUS(status);
}

static int take_file(int fd, uint64_t length)
{
    static char data[PIECE];
    int file = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    while (length) {
        ssize_t got = read(fd, data, length < PIECE ? length : PIECE);
        if (got <= 0 || !write_all(file, data, (size_t)got))
            break;
        length -= (uint64_t)got;
    }
    close(file);
    return !length && write_all(fd, "+", 1);
}

static int give_file(int fd, uint64_t length)
{
    static char data[PIECE];
    int file = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
    while (length) {
        ssize_t got = read(file, data, length < PIECE ? length : PIECE);
        if (got <= 0 || !write_all(fd, data, (size_t)got))
            break;
        length -= (uint64_t)got;
    }
    close(file);
    return !length;
}

static void serve(int fd)
{
    unsigned char request[9];
    int good = 1;
    while (good && read_all(fd, request, sizeof request)) {
        uint64_t length;
        memcpy(&length, request + 1, sizeof length);
        unsigned char status = request[0] == 'e' ? (unsigned char)run_true() : 0;
        good = request[0] == 'e'   ? write_all(fd, &status, 1)
               : request[0] == 'i' ? take_file(fd, length)
                                   : request[0] == 'o' && give_file(fd, length);
    }
}

/* A port is there for good; while nobody is connected to it reads give nothing. */
static int serve_port(const char *device)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);
    for (struct pollfd there = {.fd = fd, .events = POLLIN}; fd >= 0;) {
        if (poll(&there, 1, -1) > 0 && (there.revents & POLLHUP))
            poll(NULL, 0, 20);
        else
            serve(fd);
    }
    return 1;
}

static int serve_vsock(unsigned port)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4) < 0)
        return 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(fd))
        serve(fd);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "vsock") == 0)
        return serve_vsock((unsigned)atoi(argv[2]));
    return argc == 3 && strcmp(argv[1], "port") == 0 ? serve_port(argv[2]) : 2;
}
