/* An intrusive doubly linked list. A member names the list it hangs in: `struct list link; //
 * tenant::workspaces`. An element that hangs in no list is self-linked, so list_remove may be
 * called twice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *previous;
};

static inline void list_init(struct list *list)
{
    list->next = list->previous = list;
}

static inline bool list_empty(const struct list *list)
{
    return list->next == list;
}

/* Puts element before position; with position the list's head that is its end. */
static inline void list_insert(struct list *position, struct list *element)
{
    element->next = position;
    element->previous = position->previous;
    position->previous->next = element;
    position->previous = element;
}

static inline void list_append(struct list *head, struct list *element)
{
    list_insert(head, element);
}

static inline void list_prepend(struct list *head, struct list *element)
{
    list_insert(head->next, element);
}

static inline void list_remove(struct list *element)
{
    element->previous->next = element->next;
    element->next->previous = element->previous;
    list_init(element);
}

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* The body may remove the current element. */
#define list_for_each(cursor, following, head)                                                     \
    for (struct list *cursor = (head)->next, *following = cursor->next; cursor != (head);          \
         cursor = following, following = cursor->next)
