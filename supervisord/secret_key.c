#include "supervisord/secret_key.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_SIZE crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_SIZE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_SIZE crypto_aead_xchacha20poly1305_ietf_ABYTES
#define ID_BYTES 8
#define KEYS_MAX 2 /* the one that seals, and the one before */
#define KEY_LINE (2 * KEY_SIZE + 1)
#define KEY_FILE "secret.keys"
#define HASH_KEY_FILE "request.key"
#define CREDENTIAL "hearth-secret-key"
#define CREDENTIAL_OLD "hearth-secret-key-old"
#define CREDENTIAL_MIN 16 /* bytes: less is no key */
#define CIPHER_STACK 8192 /* the cipher spills parts of what it works on there, and of its key */

_Static_assert(SECRET_SEAL_OVERHEAD == ID_BYTES + NONCE_SIZE + TAG_SIZE, "the sealed form");

struct key {
    unsigned char bytes[KEY_SIZE];
    unsigned char id[ID_BYTES];
};

/* In memory that libsodium locks and guards. */
struct secret_keys {
    int state_fd;
    bool credential;
    unsigned count; /* the first one seals */
    struct key keys[KEYS_MAX];
    struct key next; /* of a rotation, until it seals */
    unsigned char hash_key[SECRET_HASH_KEY_SIZE];
};

static void set(struct key *key, const unsigned char bytes[KEY_SIZE])
{
    static const unsigned char purpose[] = "hearth secret key id";
    memcpy(key->bytes, bytes, KEY_SIZE);
    unsigned char hash[crypto_generichash_BYTES];
    crypto_generichash(hash, sizeof hash, purpose, sizeof purpose, bytes, KEY_SIZE);
    memcpy(key->id, hash, ID_BYTES);
}

static void add(struct secret_keys *keys, const unsigned char bytes[KEY_SIZE])
{
    set(&keys->keys[keys->count++], bytes);
}

static void set_random(struct key *key)
{
    unsigned char bytes[KEY_SIZE];
    randombytes_buf(bytes, sizeof bytes);
    set(key, bytes);
    sodium_memzero(bytes, sizeof bytes);
}

/* Files that only we may read. */

static int check_private(int fd, const char *name, struct hearth_failure *failure)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return hearth_fail_errno(failure, errno, "key_unusable", "cannot look at %s", name);
    if (S_ISREG(status.st_mode) && !(status.st_mode & 077))
        return 0;
    hearth_fail(failure, HEARTH_EFORBIDDEN, "key_unusable", "%s may be read by others", name);
    hearth_failure_hint(failure,
                        "chmod 600 %s in the state directory; if others may have read it, give the "
                        "secrets themselves other values.",
                        name);
    return HEARTH_EFORBIDDEN;
}

static int key_broken(const char *name, struct hearth_failure *failure)
{
    hearth_fail(failure, HEARTH_EINVALID, "key_unusable", "%s does not hold what it should", name);
    hearth_failure_hint(failure, "Put it back from a backup: without it secrets cannot be opened.");
    return HEARTH_EINVALID;
}

/* Gives the length, 0 where it is not there, or a negative error. */
static ssize_t read_private(int directory, const char *name, char *out, size_t size,
                            struct hearth_failure *failure)
{
    auto_close int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT
                   ? 0
                   : hearth_fail_errno(failure, errno, "key_unusable", "cannot open %s", name);
    int error = check_private(fd, name, failure);
    if (error)
        return error;
    ssize_t length = read(fd, out, size - 1);
    if (length < 0)
        return hearth_fail_errno(failure, errno, "key_unusable", "cannot read %s", name);
    out[length] = '\0';
    return length ? length : key_broken(name, failure);
}

/* In hex, each on a line. */
int secret_keys_write(const struct secret_keys *keys, enum secret_key_file which,
                      struct hearth_failure *failure)
{
    const struct key *written[] = {&keys->next, &keys->keys[0]};
    char text[KEYS_MAX * KEY_LINE + 1];
    size_t length = 0;
    for (size_t i = which == SECRET_KEY_FILE_BOTH ? 0 : 1; i < KEYS_MAX; i++) {
        sodium_bin2hex(text + length, KEY_LINE, written[i]->bytes, KEY_SIZE);
        text[length + KEY_LINE - 1] = '\n';
        length += KEY_LINE;
    }
    int error = path_write_durable(keys->state_fd, KEY_FILE, text, length, 0600);
    sodium_memzero(text, sizeof text);
    return error ? hearth_fail_errno(failure, -error, "key_unusable", "cannot write " KEY_FILE) : 0;
}

static bool parse_key(struct secret_keys *keys, const char *line)
{
    unsigned char bytes[KEY_SIZE];
    size_t got = 0;
    bool good = keys->count < KEYS_MAX &&
                sodium_hex2bin(bytes, sizeof bytes, line, 2 * KEY_SIZE, NULL, &got, NULL) == 0 &&
                got == KEY_SIZE;
    if (good)
        add(keys, bytes);
    sodium_memzero(bytes, sizeof bytes);
    return good;
}

static int parse_keys(struct secret_keys *keys, const char *text, struct hearth_failure *failure)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (length != 2 * KEY_SIZE || !parse_key(keys, text))
            return key_broken(KEY_FILE, failure);
        text += length + (text[length] == '\n');
    }
    return 0;
}

static int load_file(struct secret_keys *keys, struct hearth_failure *failure)
{
    char text[KEYS_MAX * KEY_LINE + 2]; /* one byte more than there may be still shows */
    ssize_t length = read_private(keys->state_fd, KEY_FILE, text, sizeof text, failure);
    int error = length < 0 ? (int)length : length ? parse_keys(keys, text, failure) : 0;
    sodium_memzero(text, sizeof text);
    if (error || keys->count)
        return error;
    set_random(&keys->keys[keys->count++]);
    return secret_keys_write(keys, SECRET_KEY_FILE_NOW, failure);
}

/* Whatever bytes the operator has chosen; systemd has seen to who may read it. */
static int load_credential(struct secret_keys *keys, int directory, const char *name, bool needed,
                           struct hearth_failure *failure)
{
    static const unsigned char purpose[] = "hearth secret key";
    unsigned char content[4096], bytes[KEY_SIZE];
    auto_close int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !needed)
        return 0;
    ssize_t length = fd < 0 ? -1 : read(fd, content, sizeof content);
    if (length < CREDENTIAL_MIN || length == (ssize_t)sizeof content) {
        sodium_memzero(content, sizeof content);
        return key_broken(name, failure);
    }
    crypto_generichash(bytes, sizeof bytes, content, (size_t)length, purpose, sizeof purpose - 1);
    add(keys, bytes);
    sodium_memzero(content, sizeof content);
    sodium_memzero(bytes, sizeof bytes);
    return 0;
}

static int load_hash_key(struct secret_keys *keys, struct hearth_failure *failure)
{
    char content[SECRET_HASH_KEY_SIZE + 2];
    ssize_t length = read_private(keys->state_fd, HASH_KEY_FILE, content, sizeof content, failure);
    if (length < 0)
        return (int)length;
    if (length && length != SECRET_HASH_KEY_SIZE)
        return key_broken(HASH_KEY_FILE, failure);
    if (length) {
        memcpy(keys->hash_key, content, SECRET_HASH_KEY_SIZE);
        sodium_memzero(content, sizeof content);
        return 0;
    }
    randombytes_buf(keys->hash_key, sizeof keys->hash_key);
    int error = path_write_durable(keys->state_fd, HASH_KEY_FILE, keys->hash_key,
                                   sizeof keys->hash_key, 0600);
    return error ? hearth_fail_errno(failure, -error, "key_unusable", "cannot write " HASH_KEY_FILE)
                 : 0;
}

int secret_keys_load(struct secret_keys **ret_keys, int state_fd, struct hearth_failure *failure)
{
    const char *path = getenv("CREDENTIALS_DIRECTORY");
    auto_close int directory = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    struct secret_keys *keys = sodium_malloc(sizeof *keys);
    if (!keys)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    sodium_memzero(keys, sizeof *keys);
    keys->state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
    keys->credential = directory >= 0 && faccessat(directory, CREDENTIAL, F_OK, 0) == 0;
    int error = load_hash_key(keys, failure);
    if (!error && keys->credential) {
        error = load_credential(keys, directory, CREDENTIAL, true, failure);
        if (!error)
            error = load_credential(keys, directory, CREDENTIAL_OLD, false, failure);
    } else if (!error) {
        error = load_file(keys, failure);
    }
    if (error) {
        secret_keys_free(keys);
        return error;
    }
    if (keys->count > 1 && !memcmp(keys->keys[0].id, keys->keys[1].id, ID_BYTES))
        secret_keys_forget_old(keys); /* the same one twice */
    char id[SECRET_KEY_ID_SIZE], old[SECRET_KEY_ID_SIZE];
    secret_keys_ids(keys, id, old);
    log_info("secret_key", "id=%s old=%s from=%s", id, old,
             keys->credential ? "credential" : "file");
    *ret_keys = keys;
    return 0;
}

void secret_keys_free(struct secret_keys *keys)
{
    if (keys && keys->state_fd >= 0)
        close(keys->state_fd);
    sodium_free(keys);
}

void secret_keys_ids(const struct secret_keys *keys, char ret_id[SECRET_KEY_ID_SIZE],
                     char ret_old_id[SECRET_KEY_ID_SIZE])
{
    sodium_bin2hex(ret_id, SECRET_KEY_ID_SIZE, keys->keys[0].id, ID_BYTES);
    ret_old_id[0] = '\0';
    if (secret_keys_any_old(keys))
        sodium_bin2hex(ret_old_id, SECRET_KEY_ID_SIZE, keys->keys[1].id, ID_BYTES);
}

bool secret_keys_any_old(const struct secret_keys *keys)
{
    return keys->count > 1;
}

bool secret_keys_credential(const struct secret_keys *keys)
{
    return keys->credential;
}

void secret_keys_next(struct secret_keys *keys)
{
    set_random(&keys->next);
}

void secret_keys_turn(struct secret_keys *keys)
{
    keys->keys[1] = keys->keys[0];
    keys->keys[0] = keys->next;
    keys->count = 2;
    sodium_memzero(&keys->next, sizeof keys->next);
}

void secret_keys_forget_old(struct secret_keys *keys)
{
    sodium_memzero(&keys->keys[1], sizeof keys->keys[1]);
    keys->count = 1;
}

const unsigned char *secret_hash_key(const struct secret_keys *keys)
{
    return keys->hash_key;
}

/* Sealing. */

struct associated {
    unsigned char data[512];
    size_t length;
};

/* Each part with its NUL: none runs into the next. */
static void associate(struct associated *associated, const struct secret_owner *owner)
{
    int length = snprintf((char *)associated->data, sizeof associated->data, "%s%c%s%c%s",
                          owner->tenant_id, 0, owner->workspace_id, 0, owner->name);
    associated->length =
        length < (int)sizeof associated->data ? (size_t)length : sizeof associated->data;
}

void secret_seal(const struct secret_keys *keys, const struct secret_owner *owner,
                 const void *value, size_t length, unsigned char *out)
{
    const struct key *key = &keys->keys[0];
    struct associated associated;
    associate(&associated, owner);
    memcpy(out, key->id, ID_BYTES);
    randombytes_buf(out + ID_BYTES, NONCE_SIZE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(out + ID_BYTES + NONCE_SIZE, NULL, value, length,
                                               associated.data, associated.length, NULL,
                                               out + ID_BYTES, key->bytes);
    sodium_stackzero(CIPHER_STACK);
}

int secret_open(const struct secret_keys *keys, const struct secret_owner *owner,
                const unsigned char *sealed, size_t length, void *value,
                struct hearth_failure *failure)
{
    struct associated associated;
    associate(&associated, owner);
    bool opened = false;
    for (unsigned i = 0; !opened && length >= SECRET_SEAL_OVERHEAD && i < keys->count; i++)
        opened =
            memcmp(keys->keys[i].id, sealed, ID_BYTES) == 0 &&
            crypto_aead_xchacha20poly1305_ietf_decrypt(
                value, NULL, NULL, sealed + ID_BYTES + NONCE_SIZE, length - ID_BYTES - NONCE_SIZE,
                associated.data, associated.length, sealed + ID_BYTES, keys->keys[i].bytes) == 0;
    sodium_stackzero(CIPHER_STACK);
    if (opened)
        return 0;
    hearth_fail(failure, HEARTH_EINTERNAL, "secret_unreadable",
                "the secret \"%.64s\" cannot be opened with the keys that there are", owner->name);
    hearth_failure_hint(failure, "Give the daemon the key that it was sealed with again, or make "
                                 "the workspace anew.");
    return HEARTH_EINTERNAL;
}

bool secret_sealed_before(const struct secret_keys *keys, const unsigned char *sealed,
                          size_t length)
{
    return keys->count > 1 && length >= ID_BYTES && memcmp(keys->keys[1].id, sealed, ID_BYTES) == 0;
}
