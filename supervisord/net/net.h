/* What a guest with outbound network has. Its network has 24 bits. */
#pragma once

#define NET_GUEST_INTERFACE "eth0"
#define NET_GUEST_ADDRESS "10.0.2.15"
#define NET_GUEST_ROUTER "10.0.2.2"
#define NET_ROUTER_MAC "52:54:00:00:02:02" /* a machine's: 02:0f is its own */
#define NET_GUEST_MAC "52:54:00:00:02:0f"
#define NET_GUEST_MTU "65520"      /* a machine's; pasta gives a container the same */
#define NET_NAME_SERVER "10.0.2.3" /* resolver.h */
