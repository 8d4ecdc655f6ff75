#include "supervisord/state_key.h"

#include "base/id.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <string.h>

struct owner {
    char name[sizeof((struct guest *)0)->guest_id + 8];
    struct secret_owner owner;
};

/* No secret has such a name. */
static void owner_of(const struct sandbox *sandbox, struct owner *ret_owner)
{
    snprintf(ret_owner->name, sizeof ret_owner->name, "state:%s", sandbox->guest.guest_id);
    ret_owner->owner =
        (struct secret_owner){sandbox->tenant_id, sandbox->identity, ret_owner->name};
}

static void seal(struct sandbox *sandbox, const unsigned char key[GUEST_STATE_KEY_SIZE])
{
    struct owner owner;
    owner_of(sandbox, &owner);
    secret_seal(sandbox->supervisor->secret_keys, &owner.owner, key, GUEST_STATE_KEY_SIZE,
                sandbox->state_key);
    sandbox->has_state_key = true;
}

void state_key_make(struct sandbox *sandbox)
{
    unsigned char key[GUEST_STATE_KEY_SIZE];
    id_random_bytes(key, sizeof key);
    seal(sandbox, key);
    explicit_bzero(key, sizeof key);
}

void state_key_load(struct sandbox *sandbox, const void *sealed, size_t length)
{
    sandbox->has_state_key = length == sizeof sandbox->state_key;
    if (sandbox->has_state_key)
        memcpy(sandbox->state_key, sealed, length);
}

void state_key_forget(struct sandbox *sandbox)
{
    sandbox->has_state_key = false;
    explicit_bzero(sandbox->state_key, sizeof sandbox->state_key);
}

int state_key_open(const struct sandbox *sandbox, unsigned char key[GUEST_STATE_KEY_SIZE],
                   struct hearth_failure *failure)
{
    struct owner owner;
    owner_of(sandbox, &owner);
    if (sandbox->has_state_key &&
        !secret_open(sandbox->supervisor->secret_keys, &owner.owner, sandbox->state_key,
                     sizeof sandbox->state_key, key, NULL))
        return 0;
    hearth_fail(failure, HEARTH_EINTERNAL, "suspend_unreadable",
                "what the workspace was suspended to cannot be opened: %s",
                sandbox->has_state_key ? "the key that it is sealed with is not there"
                                       : "no key of it is known");
    hearth_failure_hint(failure, STATE_KEY_HINT);
    return HEARTH_EINTERNAL;
}

bool state_key_locked(const struct sandbox *sandbox)
{
    unsigned char key[GUEST_STATE_KEY_SIZE];
    bool locked = sandbox->has_state_key && state_key_open(sandbox, key, NULL);
    explicit_bzero(key, sizeof key);
    return locked;
}

bool state_key_seal_again(struct sandbox *sandbox)
{
    struct hearth_failure failure;
    unsigned char key[GUEST_STATE_KEY_SIZE];
    if (!sandbox->has_state_key ||
        !secret_sealed_before(sandbox->supervisor->secret_keys, sandbox->state_key,
                              sizeof sandbox->state_key))
        return false;
    bool opened = !state_key_open(sandbox, key, &failure);
    if (opened)
        seal(sandbox, key);
    else
        log_error("state_key_not_opened", "guest=%s detail=\"%s\"", sandbox->guest.guest_id,
                  failure.detail);
    explicit_bzero(key, sizeof key);
    return opened;
}
