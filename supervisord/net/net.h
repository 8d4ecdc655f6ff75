/* What a guest with outbound network has. */
#pragma once

#define NET_GUEST_INTERFACE "eth0"
#define NET_GUEST_ADDRESS "10.0.2.15"
#define NET_GUEST_ROUTER "10.0.2.2"
#define NET_NAME_SERVER "10.0.2.3" /* resolver.h */
