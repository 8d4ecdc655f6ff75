/* What the container driver's tests stand on: a loop, a driver over directories of its own, guests
 * of a busybox root, one call run to its end, and a search for what is left. */
#pragma once

#include "supervisord/drivers/driver.h"

#include <stdbool.h>

extern struct loop *loop;
extern struct worker_pool *workers;
extern struct driver *driver;
extern struct driver_config config;
extern char top[64], state_dir[96], runtime_dir[96], tree[96];
extern struct guest_spec spec;

/* One pending call and how it ended. */
struct call {
    bool ended;
    int error, fd;
    struct hearth_failure failure;
};

void on_done(void *arg, int error, const struct hearth_failure *failure);
struct call *finish(struct call *call);
void make_guest(struct guest *guest, uint32_t index);
void start_guest(struct guest *guest, uint32_t index);
void end_guest(struct guest *guest);
int connect_guest(struct guest *guest);
const char *in_guest(struct guest *guest, const char *script);
void note_trace(void *arg, const char *guest_id);
bool has_process(const char *guest_id);
void assert_nothing_left(const struct guest *guest);
void make_driver(void);
void setup(void);
void teardown(void);

/* Guests that each_trace named last, in assert_nothing_left. */
extern char traces[1024];

#define CALL(operation, ...)                                                                       \
    __extension__({                                                                                \
        struct call call_ = {.fd = -1};                                                            \
        driver->operations->operation(driver, __VA_ARGS__, on_done, &call_);                       \
        *finish(&call_);                                                                           \
    })

#define MUST(made)                                                                                 \
    do {                                                                                           \
        struct call must_ = (made);                                                                \
        ck_assert_msg(must_.error == 0, "%s: %s", must_.failure.code, must_.failure.detail);       \
    } while (0)
