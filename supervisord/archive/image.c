#include "supervisord/archive/image.h"

#include "supervisord/archive/member_name.h"
#include "supervisord/archive/unpack.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JSON_MAX ((size_t)4 << 20)
#define LAYERS_MAX 1024
#define INDEX_DEPTH_MAX 3
#define DIGEST_PREFIX "sha256:"

#if defined __x86_64__
#define ARCHITECTURE "amd64"
#elif defined __aarch64__
#define ARCHITECTURE "arm64"
#else
#define ARCHITECTURE "unknown"
#endif

struct image {
    const struct image_source *source;
    const struct reader_limits *limits;
    struct reader_verdict *verdict;
    struct unpack unpack;
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct image *image, const char *format,
                                                         ...)
{
    char *detail = image->verdict->detail;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof image->verdict->detail, format, arguments);
    va_end(arguments);
    for (char *at = detail; *at; at++)
        if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7f)
            *at = '?';
    image->verdict->code = "archive_bad_image";
    return false;
}

static cJSON *read_json(struct image *image, const char *name, const char *expected_digest)
{
    char digest[65];
    char *text = image_file_text(image->source, name, JSON_MAX, digest);
    if (!text) {
        refuse(image, "it has no readable %.100s", name);
        return NULL;
    }
    cJSON *json = cJSON_ParseWithOpts(text, NULL, true);
    if (expected_digest && strcmp(digest, expected_digest) != 0) {
        refuse(image, "%.100s is not what its digest says", name);
        cJSON_Delete(json);
        json = NULL;
    } else if (!json) {
        refuse(image, "%.100s is no JSON", name);
    }
    free(text);
    return json;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

/* "sha256:HEX" → the hex digits, or NULL. */
static const char *hex_of(const char *digest)
{
    size_t prefix = strlen(DIGEST_PREFIX);
    if (strlen(digest) != prefix + 64 || !text_starts_with(digest, DIGEST_PREFIX))
        return NULL;
    return strspn(digest + prefix, "0123456789abcdef") == 64 ? digest + prefix : NULL;
}

/* One layer: an archive inside the image. digest is of its bytes; NULL where the image does not
 * say; plain_only where it is of the unpacked bytes, so that it holds only if they are that. */
static bool apply_layer(struct image *image, const char *name, const char *digest, bool plain_only)
{
    char actual[65];
    struct image_file file;
    struct reader_limits limits = *image->limits;
    struct reader_verdict layer;
    int error = image_file_open(&file, image->source, name);
    if (error)
        return refuse(image, "the layer %.100s is missing or cannot be read", name);
    limits.max_entries -= image->verdict->entry_count;
    limits.max_bytes -= image->verdict->content_bytes;
    struct reader_source source = {.read = image_file_read, .arg = &file, .size = file.size};
    struct reader_visitor visitor = {
        .on_member = unpack_member, .on_data = unpack_data, .arg = &image->unpack};
    reader_run(&source, &limits, &visitor, &layer);
    bool written = unpack_end_layer(&image->unpack);
    error = image_file_digest(&file, actual);
    image_file_close(&file);
    if (*image->unpack.detail || !written)
        return refuse(image, "%s", image->unpack.detail);
    if (!layer.good) {
        image->verdict->code = layer.code;
        memcpy(image->verdict->detail, layer.detail, sizeof layer.detail);
        return false;
    }
    bool comparable = digest && (!plain_only || strcmp(layer.compression, "none") == 0);
    if (error || (comparable && strcmp(actual, digest) != 0))
        return refuse(image, "the layer %.100s is not what its digest says", name);
    image->verdict->entry_count += layer.entry_count;
    image->verdict->content_bytes += layer.content_bytes;
    return true;
}

/* OCI image layout (index.json → manifest → layers) */

static bool is_index(const cJSON *descriptor)
{
    const char *type = text_of(descriptor, "mediaType");
    return strstr(type, "image.index") || strstr(type, "manifest.list");
}

/* The manifest for this machine; else the only one there is. */
static const cJSON *choose_manifest(const cJSON *index)
{
    const cJSON *manifests = cJSON_GetObjectItemCaseSensitive(index, "manifests"), *descriptor;
    cJSON_ArrayForEach(descriptor, manifests)
    {
        const cJSON *platform = cJSON_GetObjectItemCaseSensitive(descriptor, "platform");
        if (platform && strcmp(text_of(platform, "architecture"), ARCHITECTURE) == 0 &&
            strcmp(text_of(platform, "os"), "linux") == 0)
            return descriptor;
    }
    return cJSON_GetArraySize(manifests) == 1 ? manifests->child : NULL;
}

static cJSON *read_blob(struct image *image, const cJSON *descriptor)
{
    char name[96];
    const char *hex = hex_of(text_of(descriptor, "digest"));
    if (!hex) {
        refuse(image, "a digest in it is no sha256 digest");
        return NULL;
    }
    snprintf(name, sizeof name, "blobs/sha256/%s", hex);
    return read_json(image, name, hex);
}

static bool apply_oci_layers(struct image *image, const cJSON *manifest)
{
    char name[96];
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(manifest, "layers"), *layer;
    int count = cJSON_GetArraySize(layers);
    if (!cJSON_IsArray(layers) || count < 1 || count > LAYERS_MAX)
        return refuse(image, "its manifest has no layers, or over %d", LAYERS_MAX);
    cJSON_ArrayForEach(layer, layers)
    {
        const char *hex = hex_of(text_of(layer, "digest"));
        if (!hex)
            return refuse(image, "a digest in it is no sha256 digest");
        snprintf(name, sizeof name, "blobs/sha256/%s", hex);
        if (!apply_layer(image, name, hex, false))
            return false;
    }
    return true;
}

static bool unpack_oci(struct image *image)
{
    cJSON *index = read_json(image, "index.json", NULL);
    bool good = false;
    for (int depth = 0; index && depth < INDEX_DEPTH_MAX; depth++) {
        const cJSON *descriptor = choose_manifest(index);
        bool deeper = descriptor && is_index(descriptor);
        if (!descriptor)
            refuse(image, "it has no single image for linux/" ARCHITECTURE);
        cJSON *next = descriptor ? read_blob(image, descriptor) : NULL;
        cJSON_Delete(index);
        index = deeper ? next : NULL;
        if (next && !deeper) {
            good = apply_oci_layers(image, next);
            cJSON_Delete(next);
        }
    }
    if (index)
        refuse(image, "its indexes are nested too deep");
    cJSON_Delete(index);
    return good;
}

/* docker save: manifest.json → [{Config, Layers}] */

static bool apply_docker_layers(struct image *image, const cJSON *layers, const cJSON *diff_ids)
{
    char path[MEMBER_PATH_MAX + 1];
    int count = cJSON_GetArraySize(layers);
    if (!cJSON_IsArray(layers) || count < 1 || count > LAYERS_MAX ||
        cJSON_GetArraySize(diff_ids) != count)
        return refuse(image, "its layers and their digests do not match");
    const cJSON *digest = diff_ids->child;
    for (const cJSON *layer = layers->child; layer; layer = layer->next, digest = digest->next) {
        const char *name = cJSON_GetStringValue(layer);
        const char *value = cJSON_GetStringValue(digest);
        const char *hex = value ? hex_of(value) : NULL;
        if (!name || member_name_clean(path, name) != MEMBER_NAME_GOOD || !hex)
            return refuse(image, "a layer has no proper name or digest");
        if (!apply_layer(image, path, hex, true))
            return false;
    }
    return true;
}

static bool unpack_docker(struct image *image)
{
    char path[MEMBER_PATH_MAX + 1];
    cJSON *manifest = read_json(image, "manifest.json", NULL), *config = NULL;
    const cJSON *only = cJSON_GetArrayItem(manifest, 0);
    bool good = false;
    if (manifest && cJSON_GetArraySize(manifest) != 1)
        refuse(image, "it holds no image, or several: save one alone");
    else if (manifest && member_name_clean(path, text_of(only, "Config")) != MEMBER_NAME_GOOD)
        refuse(image, "its manifest names no configuration");
    else if (manifest)
        config = read_json(image, path, NULL);
    if (config) {
        const cJSON *rootfs = cJSON_GetObjectItemCaseSensitive(config, "rootfs");
        good = apply_docker_layers(image, cJSON_GetObjectItemCaseSensitive(only, "Layers"),
                                   cJSON_GetObjectItemCaseSensitive(rootfs, "diff_ids"));
    }
    cJSON_Delete(config);
    cJSON_Delete(manifest);
    return good;
}

static bool unpack_rootfs(struct image *image)
{
    struct reader_source source = {.fd = image->source->fd};
    struct reader_visitor visitor = {
        .on_member = unpack_member, .on_data = unpack_data, .arg = &image->unpack};
    reader_run(&source, image->limits, &visitor, image->verdict);
    bool written = unpack_end_layer(&image->unpack);
    if (*image->unpack.detail || !written)
        return refuse(image, "%s", image->unpack.detail);
    return image->verdict->good;
}

void image_unpack(const struct image_source *source, enum image_format format,
                  const struct reader_limits *limits, struct reader_verdict *ret_verdict)
{
    *ret_verdict = (struct reader_verdict){.compression = "image"};
    struct image image = {
        .source = source,
        .limits = limits,
        .verdict = ret_verdict,
        .unpack = {.layered = format != IMAGE_ROOTFS_TAR, .fd = -1},
    };
    bool good = format == IMAGE_ROOTFS_TAR   ? unpack_rootfs(&image)
                : format == IMAGE_OCI_LAYOUT ? unpack_oci(&image)
                                             : unpack_docker(&image);
    if (good && !unpack_finish(&image.unpack))
        good = refuse(&image, "no environment can be made of it: %s", image.unpack.detail);
    ret_verdict->good = good;
}
