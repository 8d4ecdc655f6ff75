/* One operation at a time for a guest, with one completion: what every driver's prepare, start,
 * stop and destroy have in common. A destroy that comes while something else is under way follows
 * it; a guest that is forgotten meanwhile is freed after it. Embedded in a driver's guest data.
 * Loop thread. */
#pragma once

#include "supervisord/drivers/driver.h"

enum phase_kind {
    PHASE_IDLE,
    PHASE_PREPARING,
    PHASE_STARTING,
    PHASE_STOPPING,
    PHASE_CHANGING, /* resize and the like */
    PHASE_DESTROYING,
};

struct phase {
    struct loop *loop;
    enum phase_kind kind;
    guest_done done;
    void *arg;
    guest_done destroy_done; /* of a destroy that waits */
    void *destroy_arg;
    bool forgotten;
    void (*destroy)(void *owner); /* begins to destroy; the phase is PHASE_DESTROYING */
    void (*free)(void *owner);
    void *owner;
    /* What the operation came to, for phase_finish_now. */
    int error;
    struct hearth_failure failure;
};

/* False where another operation is under way: done has been told (after this returns). */
bool phase_begin(struct phase *phase, enum phase_kind kind, guest_done done, void *arg);
/* The same for a destroy. True: it begins now, phase->destroy has been called. */
void phase_begin_destroy(struct phase *phase, guest_done done, void *arg);
void phase_finish(struct phase *phase, int error, const struct hearth_failure *failure);
/* With phase->error and phase->failure; has the form of a worker's or timer's completion when
 * called with the phase. */
void phase_finish_now(void *phase);
/* For an operation that ends before it has returned. */
void phase_finish_later(struct phase *phase, int error);
/* The owner is freed, now or at the end of what is under way, whose done is then not called. */
void phase_forget(struct phase *phase);
/* Is a destroy waiting, or nobody left to tell? What is under way may then be cut short. */
bool phase_unwanted(const struct phase *phase);
