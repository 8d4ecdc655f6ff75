/* Names that a guest asks for, what it is told, and the packets that it is refused. */
#include "suite.h"
#include "supervisord/net/dns.h"
#include "supervisord/net/packet.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(literal) (const unsigned char *)(literal), sizeof(literal) - 1

static const char query[] = "\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x04Name\x03org\0\0\x01\0\x01";

START_TEST(a_question_is_read)
{
    struct dns_question question;
    ck_assert_int_eq(dns_read_query(TEXT(query), &question), DNS_OK);
    ck_assert_str_eq(question.name, "name.org");
    ck_assert_uint_eq(question.type, DNS_A);
    ck_assert_uint_eq(question.id, 0x1234);
}
END_TEST

START_TEST(what_is_no_question_is_not_looked_up)
{
    struct dns_question question;
    ck_assert_int_eq(dns_read_query(TEXT("\x12\x34\x01\x00\0\x01"), &question), -1);
    ck_assert_int_eq(
        dns_read_query(TEXT("\x12\x34\x81\x00\0\x01\0\0\0\0\0\0\0\0\x01\0\x01"), &question),
        -1); /* an answer */
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"\1\2\1\0\0\1\0\0\0\0\0\0\4pyp", 16},            /* cut */
        {"\1\2\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", 18}, /* a pointer */
        {"\1\2\1\0\0\1\0\0\0\0\0\0\3a.b\0\0\1\0\1", 21},  /* a dot in a label */
        {"\1\2\1\0\0\2\0\0\0\0\0\0\1a\0\0\1\0\1", 19},    /* two questions */
        {"\1\2\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0", 18},      /* no class */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(
            dns_read_query((const unsigned char *)bad[i].bytes, bad[i].size, &question),
            DNS_FORMERR);
    ck_assert_int_eq(dns_read_query(TEXT("\1\2\x09\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"), &question),
                     DNS_NOTIMP);
}
END_TEST

START_TEST(addresses_are_taken_from_an_answer_to_that_question)
{
    static const char answer[] =
        "\x77\x77\x81\x80\0\x01\0\x02\0\0\0\0\x04name\x03org\0\0\x01\0\x01"
        "\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c"          /* an alias */
        "\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x08\x08\x04\x64"; /* an address */
    struct dns_question question;
    struct dns_answer got;
    ck_assert_int_eq(dns_read_query(TEXT(query), &question), DNS_OK);
    ck_assert(dns_read_answer(TEXT(answer), &question, 0x7777, &got));
    ck_assert_uint_eq(got.count, 1);
    ck_assert_uint_eq(got.items[0].address, 0x08080464);
    ck_assert_uint_eq(got.items[0].ttl_seconds, 60);
    ck_assert(!dns_read_answer(TEXT(answer), &question, 0x7778, &got));
    question.name[0] = 'q';
    ck_assert(!dns_read_answer(TEXT(answer), &question, 0x7777, &got));
}
END_TEST

START_TEST(an_answer_has_what_was_asked)
{
    unsigned char out[DNS_MESSAGE_SIZE];
    struct dns_question question;
    struct dns_answer answer = {.count = 1, .items = {{0x08080464, 60}}}, back;
    ck_assert_int_eq(dns_read_query(TEXT(query), &question), DNS_OK);
    size_t length = dns_write_answer(out, &question, &answer);
    ck_assert_mem_eq(out + 12, query + 12, question.size);
    ck_assert(dns_read_answer(out, length, &question, 0x1234, &back));
    ck_assert_mem_eq(&back, &answer, sizeof back);
}
END_TEST

static struct net_policy policy;

START_TEST(a_policy_is_read_whole_or_not_at_all)
{
    static const char *const bad[] = {"",
                                      "open",
                                      "open\n",
                                      "open\n.",
                                      "open\n.\nx",
                                      "shut\n.\n",
                                      "listed\na..b\n.\n",
                                      ".\n",
                                      "listed\n10.0.0.1/8\n.\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!net_policy_parse(&policy, bad[i]), "%s", bad[i]);
    ck_assert(net_policy_parse(&policy, "listed\nA.example\n*.b.example\n10.0.0.0/8\n.\n"));
    ck_assert_uint_eq(policy.name_count, 2);
    ck_assert(net_policy_names(&policy, "a.example") && net_policy_names(&policy, "x.y.b.example"));
    ck_assert(!net_policy_names(&policy, "b.example") && !net_policy_names(&policy, "xb.example") &&
              !net_policy_names(&policy, "x.a.example"));
}
END_TEST

START_TEST(the_most_exact_network_decides)
{
    static const struct net_prefix own[] = {{0x08080000, 24}, {0x08080002, 32}};
    ck_assert(net_policy_parse(&policy, "open\n10.1.0.0/16\n8.8.0.0/16\n.\n"));
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x0a010203), NET_ALLOWED);
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x0a020203), NET_SPECIAL);
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x08080003), NET_SPECIAL);
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x08080103), NET_ALLOWED);
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x01010101), NET_ALLOWED);
    ck_assert(net_policy_parse(&policy, "listed\n0.0.0.0/0\n.\n"));
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x0a020203), NET_SPECIAL);
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x01010101), NET_ALLOWED);
    ck_assert(net_policy_parse(&policy, "listed\n10.1.0.0/16\n.\n"));
    ck_assert_int_eq(net_policy_reaches(&policy, own, 2, 0x01010101), NET_UNLISTED);
}
END_TEST

START_TEST(a_connection_is_refused_with_a_reset)
{
    static const char syn[] = "\x45\0\0\x28\0\0\0\0\x40\x06\0\0\x0a\0\x02\x0f\x0a\x09\x09\x09"
                              "\x10\0\x1e\x61\0\0\0\x05\0\0\0\0\x50\x02\0\0\0\0\0\0";
    unsigned char reply[PACKET_REPLY_SIZE];
    struct packet packet;
    size_t length;
    ck_assert(packet_read(TEXT(syn), &packet, reply, &length));
    ck_assert_uint_eq(packet.destination, 0x0a090909);
    ck_assert_uint_eq(packet.port, 7777);
    ck_assert_uint_eq(length, PACKET_REPLY_SIZE);
    ck_assert_mem_eq(reply + 12, "\x0a\x09\x09\x09\x0a\0\x02\x0f\x1e\x61\x10\0", 12);
    ck_assert_mem_eq(reply + 28, "\0\0\0\x06\x50\x14", 6); /* acknowledges the SYN; RST, ACK */
    ck_assert(packet_read(TEXT(syn) - 8, &packet, reply, &length));
    ck_assert_uint_eq(length, 0);
    ck_assert(!packet_read(TEXT(syn) - 21, &packet, reply, &length));
    ck_assert(!packet_read(TEXT("\x60"), &packet, reply, &length));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dns");
    TCase *test_case = tcase_create("dns");
    tcase_add_test(test_case, a_question_is_read);
    tcase_add_test(test_case, what_is_no_question_is_not_looked_up);
    tcase_add_test(test_case, addresses_are_taken_from_an_answer_to_that_question);
    tcase_add_test(test_case, an_answer_has_what_was_asked);
    tcase_add_test(test_case, a_policy_is_read_whole_or_not_at_all);
    tcase_add_test(test_case, the_most_exact_network_decides);
    tcase_add_test(test_case, a_connection_is_refused_with_a_reset);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
