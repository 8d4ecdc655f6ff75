/* What template.c (which are there, and who uses them) and template_make.c (how one comes to be)
 * share. */
#pragma once

#include "supervisord/drivers/qemu/template.h"
#include "supervisord/drivers/qemu/template_store.h"

#define KEY_SIZE TEMPLATE_KEY_SIZE

/* KEPT: by an earlier daemon, on the disk; LOADING: into memory. */
enum template_state {
    TEMPLATE_MAKING,
    TEMPLATE_KEPT,
    TEMPLATE_LOADING,
    TEMPLATE_READY,
    TEMPLATE_BROKEN,
};

struct template
{
    struct list link; // qemu_driver::templates, the oldest first
    struct qemu_driver *driver;
    char key[KEY_SIZE];
    enum template_state state;
    unsigned holders;
    unsigned failures;   /* of clones, in a row */
    int64_t retry_at_us; /* of a broken one */
    int64_t began_us;
    struct guest guest; /* while it is made */
    bool guest_used;
    struct qmp *qmp;
    struct qmp_command commands[3];
    int fds[TEMPLATE_FILES]; /* memory files */
    struct list waiters;     // waiter::link, for the end of LOADING
    int error;
    struct hearth_failure failure;
};

/* template_make.c: boots a machine of the same make as `like` (borrowed for the call) in the
 * background, saves it, and puts it to the disk; the state says what came of it. */
void template_make(struct template *template, const struct qemu_guest *like);

/* template.c */
/* It is of no use: counted, logged, removed from the disk, and made anew some time after. */
void template_give_up(struct template *template, const char *why);
/* Puts its files to the disk, or removes them there, in the background. */
void template_store(const struct template *template, bool put);
