/* api/decode.c: the first byte picks an operation, the rest is the JSON of its input. What is
 * decoded keeps the bounds of the table. */
#include "fuzz.h"

#include "api/call_internal.h"
#include "api/decode.h"
#include "api/json_read.h"
#include "base/text.h"

#include <string.h>

static void check_string(const struct field *field, const char *text)
{
    if (!text)
        return;
    PROMISE(utf8_valid(text, strlen(text)));
    PROMISE(*text || (field->flags & FIELD_BLANK_OK));
    PROMISE(!field->maximum || (int64_t)strlen(text) <= field->maximum);
}

static void check_field(const struct field *field, const char *input)
{
    const void *at = input + field->offset;
    if (field->type == FIELD_STRING) {
        check_string(field, *(const char *const *)at);
    } else if (field->type == FIELD_INTEGER && !(field->flags & FIELD_OPTIONAL_VALUE)) {
        int64_t value = *(const int64_t *)at;
        PROMISE(value >= field->minimum && value <= field->maximum);
    } else if (field->type == FIELD_INTEGER) {
        const struct optional_integer *value = at;
        PROMISE(!value->set || (value->value >= field->minimum && value->value <= field->maximum));
    } else if (field->type == FIELD_STRING_LIST) {
        const struct string_list *list = at;
        for (size_t i = 0; i < list->count; i++)
            PROMISE(list->items[i] != NULL);
    } else if (field->type == FIELD_MAP) {
        const struct pair_list *list = at;
        for (size_t i = 0; i < list->count; i++)
            for (size_t j = 0; j < i; j++)
                PROMISE(strcmp(list->items[i].name, list->items[j].name) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    cJSON *object = NULL;
    if (!size || json_parse(&object, (const char *)data + 1, size - 1, NULL))
        return 0;
    const struct operation_entry *entry = table[data[0] % count];
    struct call *call = calloc(1, sizeof *call);
    char *input = calloc(1, entry->input_size + 1);
    list_init(&call->link);
    list_init(&call->key_link);
    if (decode_input(call, entry, object, input, &failure)) {
        PROMISE(failure.code[0] && failure.detail[0]);
        PROMISE(!failure.field[0] || failure.field[0] == '/');
    } else {
        for (const struct field *field = entry->input; field->name; field++)
            check_field(field, input);
    }
    call_free(call);
    free(input);
    cJSON_Delete(object);
    return 0;
}
