#include "api/decode.h"

#include "api/http.h"
#include "api/json_read.h"
#include "api/problem.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define STRING_MAX_DEFAULT ((int64_t)4 << 20)
#define LIST_MAX_DEFAULT 256
#define POINTER_SIZE 128

static int invalid(struct hearth_failure *failure, const char *pointer, const char *code,
                   const char *detail)
{
    int error = hearth_fail(failure, HEARTH_EINVALID, code, "%s: %s",
                            *pointer ? pointer : "the input", detail);
    hearth_failure_field(failure, pointer);
    return error;
}

/* Levenshtein's distance, for "did you mean". */
static size_t distance(const char *left, const char *right)
{
    size_t row[64], length = strlen(right);
    if (length >= 63 || strlen(left) >= 63)
        return 99;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; left[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t above = row[j], best = diagonal + (left[i - 1] != right[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[length];
}

static void hint_names(const struct field *fields, struct hearth_failure *failure)
{
    char names[320] = "";
    size_t used = 0;
    for (const struct field *field = fields; field->name; field++) {
        int more =
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", field->name);
        if (more < 0 || (size_t)more >= sizeof names - used)
            break;
        used += (size_t)more;
    }
    names[used] = '\0'; /* A name that did not fit is left out whole. */
    if (used)
        hearth_failure_hint(failure, "The arguments are: %s.", names);
    else
        hearth_failure_hint(failure, "There are no arguments here.");
}

static int unknown(const struct field *fields, const char *pointer, const char *name,
                   struct hearth_failure *failure)
{
    const char *nearest = NULL;
    size_t best = 4;
    int error = invalid(failure, pointer, "unknown_argument", "there is no such argument");
    for (const struct field *field = fields; field->name; field++) {
        size_t steps = distance(name, field->name);
        if (steps < best) {
            best = steps;
            nearest = field->name;
        }
    }
    if (nearest)
        hearth_failure_hint(failure, "Did you mean \"%s\"?", nearest);
    else
        hint_names(fields, failure);
    return error;
}

/* What the table says of an argument, for whoever gave it wrongly; a check's own hint, or that of
 * its code, is better. */
static void hint_field(const struct field *field, struct hearth_failure *failure)
{
    if (failure && !failure->hint[0] && !problem_hint_of_code(failure->code) && field->description)
        hearth_failure_hint(failure, "%s%s%s: %s", field->name,
                            field->default_json ? ", by default " : "",
                            field->default_json ? field->default_json : "", field->description);
}

static const struct field *find_field(const struct field *fields, const char *name)
{
    for (const struct field *field = fields; field->name; field++)
        if (strcmp(field->name, name) == 0)
            return field;
    return NULL;
}

static char *keep(struct call *call, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = call_allocate(call, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
}

static int check_length(const struct field *field, size_t length, int64_t general, const char *what,
                        const char *pointer, struct hearth_failure *failure)
{
    char detail[96];
    int64_t maximum = field->maximum ? field->maximum : general;
    if ((int64_t)length >= field->minimum && (int64_t)length <= maximum)
        return 0;
    int64_t minimum = field->minimum;
    if (!minimum && field->type == FIELD_STRING && !(field->flags & FIELD_BLANK_OK))
        minimum = 1;
    snprintf(detail, sizeof detail, "%zu %s where %" PRId64 " to %" PRId64 " are allowed", length,
             what, minimum, maximum);
    return invalid(failure, pointer, "bad_length", detail);
}

static int decode_string(struct call *call, const struct field *field, const cJSON *item,
                         const char *pointer, const char **ret_text, struct hearth_failure *failure)
{
    if (!cJSON_IsString(item))
        return invalid(failure, pointer, "bad_type", "a string is wanted");
    const char *text = item->valuestring;
    if (!*text && !(field->flags & FIELD_BLANK_OK))
        return invalid(failure, pointer, "blank_argument", "it must not be empty");
    bool characters = field->flags & FIELD_CHARACTERS;
    size_t length = strlen(text);
    int error =
        check_length(field, characters ? utf8_length(text, length) : length, STRING_MAX_DEFAULT,
                     characters ? "characters" : "bytes", pointer, failure);
    if (error)
        return error;
    bool known = !field->choices;
    char detail[256] = "one of";
    for (const char *const *choice = field->choices; choice && *choice; choice++) {
        known = known || strcmp(*choice, text) == 0;
        snprintf(detail + strlen(detail), sizeof detail - strlen(detail), " \"%s\"", *choice);
    }
    if (!known) {
        snprintf(detail + strlen(detail), sizeof detail - strlen(detail), " is wanted");
        return invalid(failure, pointer, "bad_choice", detail);
    }
    if (field->check && (error = field->check(text, failure))) {
        hearth_failure_field(failure, pointer);
        return error;
    }
    *ret_text = keep(call, text);
    return *ret_text ? 0 : no_memory(failure);
}

static int decode_integer(const struct field *field, const cJSON *item, const char *pointer,
                          int64_t *ret_value, struct hearth_failure *failure)
{
    char detail[96];
    if (!json_integer_of(item, ret_value))
        return invalid(failure, pointer, "bad_type", "a whole number is wanted");
    if (*ret_value >= field->minimum && *ret_value <= field->maximum)
        return 0;
    snprintf(detail, sizeof detail, "%" PRId64 " is not within %" PRId64 " to %" PRId64, *ret_value,
             field->minimum, field->maximum);
    return invalid(failure, pointer, "out_of_range", detail);
}

static int decode_string_list(struct call *call, const struct field *field, const cJSON *item,
                              const char *pointer, struct string_list *ret_list,
                              struct hearth_failure *failure)
{
    char element[POINTER_SIZE], index[24];
    static const struct field any = {.flags = FIELD_BLANK_OK};
    if (!cJSON_IsArray(item))
        return invalid(failure, pointer, "bad_type", "a list of strings is wanted");
    size_t count = (size_t)cJSON_GetArraySize(item), at = 0;
    int error = check_length(field, count, LIST_MAX_DEFAULT, "elements", pointer, failure);
    const char **items = error ? NULL : call_allocate(call, (count + 1) * sizeof *items);
    if (!items)
        return error ? error : no_memory(failure);
    const cJSON *member;
    cJSON_ArrayForEach(member, item)
    {
        snprintf(index, sizeof index, "%zu", at);
        text_pointer(element, POINTER_SIZE, pointer, index);
        error = decode_string(call, &any, member, element, &items[at], failure);
        if (error)
            return error;
        at++;
    }
    items[at] = NULL;
    *ret_list = (struct string_list){at, items};
    return 0;
}

static int decode_pair(struct call *call, const cJSON *name, const cJSON *value,
                       const char *pointer, struct pair_item *ret_pair,
                       struct hearth_failure *failure)
{
    if (!cJSON_IsString(name) || !cJSON_IsString(value))
        return invalid(failure, pointer, "bad_type",
                       "a name and a value, both strings, are wanted");
    *ret_pair = (struct pair_item){keep(call, name->valuestring), keep(call, value->valuestring)};
    return ret_pair->name && ret_pair->value ? 0 : no_memory(failure);
}

static int decode_map(struct call *call, const struct field *field, const cJSON *item,
                      const char *pointer, struct pair_list *ret_list,
                      struct hearth_failure *failure)
{
    char element[POINTER_SIZE], index[24];
    bool array = cJSON_IsArray(item);
    if (!array && !cJSON_IsObject(item))
        return invalid(failure, pointer, "bad_type",
                       "an object of strings, or a list of {name, value}, is wanted");
    size_t count = (size_t)cJSON_GetArraySize(item), at = 0;
    int error = check_length(field, count, LIST_MAX_DEFAULT, "entries", pointer, failure);
    struct pair_item *items = error ? NULL : call_allocate(call, (count + 1) * sizeof *items);
    if (!items)
        return error ? error : no_memory(failure);
    const cJSON *member;
    cJSON_ArrayForEach(member, item)
    {
        snprintf(index, sizeof index, "%zu", at);
        text_pointer(element, POINTER_SIZE, pointer, array ? index : member->string);
        cJSON key = {.type = cJSON_String, .valuestring = array ? NULL : member->string};
        if (array && (!cJSON_IsObject(member) || cJSON_GetArraySize(member) != 2))
            return invalid(failure, element, "bad_type", "{name, value} is wanted");
        error = decode_pair(call, array ? cJSON_GetObjectItemCaseSensitive(member, "name") : &key,
                            array ? cJSON_GetObjectItemCaseSensitive(member, "value") : member,
                            element, &items[at], failure);
        if (error)
            return error;
        for (size_t i = 0; i < at; i++)
            if (strcmp(items[i].name, items[at].name) == 0)
                return invalid(failure, element, "duplicate_name", "the name stands twice");
        at++;
    }
    *ret_list = (struct pair_list){true, at, items};
    return 0;
}

static int decode_fields(struct call *call, const struct field *fields, const cJSON *object,
                         void *input, const char *base, struct hearth_failure *failure);

static int decode_object_list(struct call *call, const struct field *field, const cJSON *item,
                              const char *pointer, struct object_list *ret_list,
                              struct hearth_failure *failure)
{
    char element[POINTER_SIZE], index[24];
    if (!cJSON_IsArray(item))
        return invalid(failure, pointer, "bad_type", "a list of objects is wanted");
    size_t count = (size_t)cJSON_GetArraySize(item), at = 0;
    int error = check_length(field, count, LIST_MAX_DEFAULT, "elements", pointer, failure);
    char *items = error ? NULL : call_allocate(call, (count + 1) * field->nested_size);
    if (!items)
        return error ? error : no_memory(failure);
    const cJSON *member;
    cJSON_ArrayForEach(member, item)
    {
        snprintf(index, sizeof index, "%zu", at);
        text_pointer(element, POINTER_SIZE, pointer, index);
        error = decode_fields(call, field->fields, member, items + at * field->nested_size, element,
                              failure);
        if (error)
            return error;
        at++;
    }
    *ret_list = (struct object_list){at, items};
    return 0;
}

static int decode_value(struct call *call, const struct field *field, const cJSON *item,
                        void *input, const char *pointer, struct hearth_failure *failure)
{
    void *out = (char *)input + field->offset;
    int64_t number = 0;
    int error;
    switch (field->type) {
    case FIELD_STRING:
        return decode_string(call, field, item, pointer, out, failure);
    case FIELD_INTEGER:
        error = decode_integer(field, item, pointer, &number, failure);
        if (!error && (field->flags & FIELD_OPTIONAL_VALUE))
            *(struct optional_integer *)out = (struct optional_integer){true, number};
        else if (!error)
            *(int64_t *)out = number;
        return error;
    case FIELD_NUMBER:
        if (!cJSON_IsNumber(item))
            return invalid(failure, pointer, "bad_type", "a number is wanted");
        *(double *)out = item->valuedouble;
        return 0;
    case FIELD_BOOLEAN:
        if (!cJSON_IsBool(item))
            return invalid(failure, pointer, "bad_type", "true or false is wanted");
        *(bool *)out = cJSON_IsTrue(item);
        return 0;
    case FIELD_STRING_LIST:
        return decode_string_list(call, field, item, pointer, out, failure);
    case FIELD_MAP:
        return decode_map(call, field, item, pointer, out, failure);
    case FIELD_OBJECT: {
        void *nested = call_allocate(call, field->nested_size);
        if (!nested)
            return no_memory(failure);
        *(void **)out = nested;
        return decode_fields(call, field->fields, item, nested, pointer, failure);
    }
    case FIELD_OBJECT_LIST:
        return decode_object_list(call, field, item, pointer, out, failure);
    case FIELD_ANY:
    default:
        return hearth_fail(failure, HEARTH_EINTERNAL, NULL, "a free-form input");
    }
}

bool decode_is_default(const struct field *field, const cJSON *value)
{
    if (!value || cJSON_IsNull(value))
        return true;
    cJSON *usual = field->default_json ? cJSON_Parse(field->default_json) : NULL;
    bool same = usual && cJSON_Compare(usual, value, true);
    cJSON_Delete(usual);
    return same;
}

static int decode_default(struct call *call, const struct field *field, void *input,
                          struct hearth_failure *failure)
{
    if (!field->default_json)
        return 0;
    cJSON *value = cJSON_Parse(field->default_json);
    if (!value)
        return no_memory(failure);
    int error = decode_value(call, field, value, input, field->name, failure);
    cJSON_Delete(value);
    return error;
}

static int decode_fields(struct call *call, const struct field *fields, const cJSON *object,
                         void *input, const char *base, struct hearth_failure *failure)
{
    char pointer[POINTER_SIZE];
    const cJSON *member;
    if (!cJSON_IsObject(object))
        return invalid(failure, base, "bad_type", "an object is wanted");
    cJSON_ArrayForEach(member, object)
    {
        text_pointer(pointer, POINTER_SIZE, base, member->string);
        if (!find_field(fields, member->string))
            return unknown(fields, pointer, member->string, failure);
    }
    for (const struct field *field = fields; field->name; field++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field->name);
        int error;
        text_pointer(pointer, POINTER_SIZE, base, field->name);
        if (item && !cJSON_IsNull(item))
            error = decode_value(call, field, item, input, pointer, failure);
        else if (field->flags & FIELD_REQUIRED)
            error = invalid(failure, pointer, "missing_argument", "it is needed");
        else
            error = decode_default(call, field, input, failure);
        if (error) {
            hint_field(field, failure);
            return error;
        }
    }
    return 0;
}

int decode_input(struct call *call, const struct operation_entry *entry, const cJSON *object,
                 void *input, struct hearth_failure *failure)
{
    return decode_fields(call, entry->input, object, input, "", failure);
}

/* Query parameters. */

static cJSON *typed(const struct field *field, const char *value)
{
    char *end;
    errno = 0;
    if (field->type == FIELD_INTEGER || field->type == FIELD_NUMBER) {
        double number = strtod(value, &end);
        bool good = *value && !*end && !errno && strspn(value, "0123456789+-.eE") == strlen(value);
        return good ? cJSON_CreateNumber(number) : cJSON_CreateString(value);
    }
    /* "True" and "False" are what Python's clients make of theirs. */
    if (field->type == FIELD_BOOLEAN && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0))
        return cJSON_CreateTrue();
    if (field->type == FIELD_BOOLEAN &&
        (strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0))
        return cJSON_CreateFalse();
    return cJSON_CreateString(value);
}

static int add_parameter(const struct field *field, const char *value, cJSON *object,
                         struct hearth_failure *failure)
{
    char pointer[POINTER_SIZE];
    cJSON *list = cJSON_GetObjectItemCaseSensitive(object, field->name);
    text_pointer(pointer, POINTER_SIZE, "", field->name);
    if (field->type == FIELD_STRING_LIST) {
        if (!list && !(list = cJSON_AddArrayToObject(object, field->name)))
            return no_memory(failure);
        return cJSON_AddItemToArray(list, cJSON_CreateString(value)) ? 0 : no_memory(failure);
    }
    if (list) {
        int error = hearth_fail(failure, HEARTH_EMALFORMED, "duplicate_parameter",
                                "%s stands twice in the query", field->name);
        hearth_failure_field(failure, pointer);
        return error;
    }
    return cJSON_AddItemToObject(object, field->name, typed(field, value)) ? 0 : no_memory(failure);
}

int decode_query(const struct operation_entry *entry, const struct http_pair *query, size_t count,
                 cJSON *object, struct hearth_failure *failure)
{
    for (size_t i = 0; i < count; i++) {
        char pointer[POINTER_SIZE];
        const struct field *field = find_field(entry->input, query[i].name);
        text_pointer(pointer, POINTER_SIZE, "", query[i].name);
        if (!field || field->place == PLACE_PATH)
            return unknown(entry->input, pointer, query[i].name, failure);
        int error = utf8_valid(query[i].value, strlen(query[i].value))
                        ? add_parameter(field, query[i].value, object, failure)
                        : invalid(failure, pointer, "bad_text", "it is no UTF-8");
        if (error)
            return error;
    }
    return 0;
}
