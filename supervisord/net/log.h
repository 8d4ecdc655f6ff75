/* What a guest tried and was denied: a file of fixed size, written by hearth-net through a mapping
 * and read by the daemon, so that it costs a flooding guest's own time and nobody's memory. What is
 * tried again is counted, not listed again; where the table is full, the entry that has been quiet
 * for longest goes. The reader trusts nothing of what it finds. */
#pragma once

#include "supervisord/net/policy.h"

#define NET_LOG_ENTRIES 256

enum net_decision {
    NET_DENIED_ADDRESS = 1, /* a connection or packet */
    NET_DENIED_NAME,        /* a name that may not be looked up */
    NET_DENIED_ANSWER,      /* a name that may, with an address that may not be reached */
};

struct net_log_entry {
    uint64_t sequence;         /* 1, 2 … in the order in which they came up; 0: none */
    int64_t first_us, last_us; /* wall clock */
    uint64_t count;
    uint32_t address; /* host byte order; 0: none */
    uint16_t port;
    uint8_t protocol;            /* IPPROTO_… */
    uint8_t decision;            /* enum net_decision */
    char name[NET_NAME_MAX + 3]; /* "": not known */
};

struct net_log {
    uint64_t magic;
    uint64_t denied;    /* all there were */
    uint64_t forgotten; /* entries that had to go */
    uint64_t sequence;  /* the last given */
    struct net_log_entry entries[NET_LOG_ENTRIES];
};

/* fd is an empty file or a former log. NULL: errno. It stays mapped. */
struct net_log *net_log_map(int fd);
/* Counts one. what's sequence, times and count are not looked at. */
void net_log_add(struct net_log *log, const struct net_log_entry *what);

/* Reads a whole log; false where there is none, or it is not one. Entries come out in order, with
 * those that make no sense left out; count is theirs. */
bool net_log_read(int fd, struct net_log *ret_log, size_t *ret_count);
/* Only how many denials there were; 0 where there is no log. */
uint64_t net_log_read_denied(int fd);
