/* Networks as text, and the lists of them that a setting may hold. */
#include "suite.h"
#include "supervisord/drivers/network.h"
#include "supervisord/net/denied.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_network_is_read_and_printed)
{
    static const char *const pairs[][2] = {{"10.0.0.0/8", "10.0.0.0/8"},
                                           {"192.0.2.7", "192.0.2.7/32"},
                                           {"0.0.0.0/0", "0.0.0.0/0"},
                                           {"255.255.255.255/32", "255.255.255.255/32"}};
    struct net_prefix prefix;
    char text[NET_PREFIX_TEXT];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        ck_assert(net_prefix_parse(pairs[i][0], &prefix));
        net_prefix_print(&prefix, text);
        ck_assert_str_eq(text, pairs[i][1]);
    }
}
END_TEST

START_TEST(what_is_no_network_is_refused)
{
    static const char *const bad[] = {"",           "10",          "10.0.0.0/",    "10.0.0.0/33",
                                      "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/8x",  "a.b.c.d",
                                      "::1",        "10.0.0.0 /8", "1.2.3.4.5/32", "10.0.0.0/8/8",
                                      "-x",         "10.0.0.0/ 8", "10.0.0.256"};
    struct net_prefix prefix;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!net_prefix_parse(bad[i], &prefix), "%s", bad[i]);
}
END_TEST

START_TEST(a_list_has_networks_between_commas)
{
    static const char *const good[] = {"", "10.0.0.0/8", "10.0.0.0/8,192.168.1.1"};
    static const char *const bad[] = {",", "10.0.0.0/8,", ",10.0.0.0/8", "10.0.0.0/8, 1.2.3.4",
                                      "10.0.0.0/8,x"};
    char many[65 * 8 + 1] = "";
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(network_allow_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!network_allow_valid(bad[i]), "%s", bad[i]);
    for (int i = 0; i < 65; i++)
        strcat(many, i ? ",1.2.3.4" : "1.2.3.4");
    ck_assert(!network_allow_valid(many));
}
END_TEST

START_TEST(this_hosts_own_addresses_are_found)
{
    struct net_prefix own[256];
    int count = net_own(own, 256);
    bool loopback = false;
    ck_assert_int_ge(count, 2);
    for (int i = 0; i < count; i++)
        loopback |= own[i].address == 0x7f000001 && own[i].length == 32;
    ck_assert(loopback);
    ck_assert_int_lt(net_own(own, 1), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("network");
    TCase *test_case = tcase_create("network");
    tcase_add_test(test_case, a_network_is_read_and_printed);
    tcase_add_test(test_case, what_is_no_network_is_refused);
    tcase_add_test(test_case, a_list_has_networks_between_commas);
    tcase_add_test(test_case, this_hosts_own_addresses_are_found);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
