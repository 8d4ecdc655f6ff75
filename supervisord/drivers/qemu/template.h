/* Templates: a machine that was booted, warmed and saved once, and from which others start in a
 * fraction of a boot. One for each tenant, environment, size, kernel, agent and QEMU, in
 * memory that only clones map, privately (sealed: no QEMU can change it), and on the disk, from
 * where the next daemon takes it (template_store.h). What cannot be made or used costs a cold boot,
 * a count and a line in the log. Loop thread, save where "blocking" stands. */
#pragma once

#include "supervisord/drivers/qemu/qemu.h"

struct template;

/* Those that an earlier daemon has left. Reads small files. */
void templates_begin(struct qemu_driver *driver);
/* One that this guest may start from; NULL. Borrowed until the loop's next turn, save by
 * template_take. */
struct template *template_find(const struct qemu_guest *guest);
/* Is there one for the likes of this guest? Its kernel may yet turn out to be another's. */
bool template_likely(const struct qemu_driver *driver, const struct guest_spec *spec);
/* One that is held may have been given up. */
bool template_usable(const struct template *template);
/* … or replaced, or have made room for others. */
bool template_current(const struct template *template);
/* The disk of the template that such a guest starts from; its own may be larger, and is grown as it
 * comes up. */
uint32_t template_disk_mib(const struct qemu_guest *guest);
/* Has one made in the background for the likes of this guest, which has just been booted. */
void template_want(const struct qemu_guest *guest);
/* Calls done once it is in memory, or has turned out not to be had: at once where it is. The
 * template is held until then. */
void template_when_loaded(struct template *template, void (*done)(void *arg), void *arg);
/* Blocking, on a starter: gives the guest what it starts with: template_ram_fd, template_state_fd
 * and the template's disk in place of its own. */
int template_use(struct qemu_guest *guest, struct hearth_failure *failure);
/* What has become of a clone. Several in a row that did not come up are the template's fault: it is
 * given up, and made anew some time after. */
void template_worked(struct template *template);
void template_did_not_work(struct template *template, const char *why);
/* Blocking: all of one file to the other's place. A negative errno. */
int template_copy(int from, int to);
/* Blocking: a memory file for reading, with a position of its own; a negative errno. */
int template_open_again(int fd);
void template_hold(struct template *template);
void template_release(struct template *template);
/* Ends what is being made (blocking) and forgets all. */
void templates_free(struct qemu_driver *driver);
