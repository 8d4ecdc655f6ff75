/* Templates: a machine that was booted, warmed and saved once, and from which others start in a
 * fraction of a boot. One for each tenant, environment, size, kernel, agent and QEMU; it lives as
 * long as the daemon, in memory that only clones map, privately (sealed: no QEMU can change it).
 * What cannot be made or used costs a cold boot, a count and a line in the log. Loop thread, save
 * where "blocking" stands. */
#pragma once

#include "supervisord/drivers/qemu/qemu.h"

struct template;

/* One that this guest may start from, now; NULL. Borrowed until the loop's next turn, save by
 * template_take. */
struct template *template_find(const struct qemu_guest *guest);
/* Is there one for the likes of this guest? Its kernel may yet turn out to be another's. */
bool template_likely(const struct qemu_driver *driver, const struct guest_spec *spec);
/* One that is held may have been given up. */
bool template_usable(const struct template *template);
/* The disk of the template that such a guest starts from; its own may be larger, and is grown as it
 * comes up. */
uint32_t template_disk_mib(const struct qemu_guest *guest);
/* Has one made in the background for the likes of this guest, which has just been booted. */
void template_want(const struct qemu_guest *guest);
/* Blocking, on a starter: gives the guest what it starts with: template_ram_fd, template_state_fd
 * and the template's disk in place of its own. */
int template_use(struct qemu_guest *guest, struct hearth_failure *failure);
/* What has become of a clone. Several in a row that did not come up are the template's fault: it is
 * given up, and made anew some time after. */
void template_worked(struct template *template);
void template_did_not_work(struct template *template, const char *why);
void template_hold(struct template *template);
void template_release(struct template *template);
/* Ends what is being made (blocking) and forgets all. */
void templates_free(struct qemu_driver *driver);
