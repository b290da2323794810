/* SPDX-License-Identifier: MIT */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "macro.h"

/* Lists of hosts that may be connected to. An entry is "example.org", "*.example.org" (what is below it, not the name
 * itself), "192.0.2.1" or "[2001:db8::1]", each with ":port" behind it; without one, port 443 is meant. */

/* An entry as above. */
bool host_pattern_is_valid(const char *pattern);

/* A name of letters, digits, '-' and '_' in labels, which no resolver takes for a number. */
bool host_name_is_valid(const char *s);
/* "192.0.2.1", "[2001:db8::1]", and nothing that only some take for an address. */
bool host_address_is_valid(const char *s);

/* host is one of these two. A name is never compared with an address. */
bool host_list_has(char *const *patterns, const char *host, uint16_t port);
/* An address that is on the internet, or is an entry of the list with its port. What a name leads to is not for its
 * owner alone to say: a name that is listed may lead to our own network only when the address is listed, too. */
bool host_list_allows_address(char *const *patterns, const struct sockaddr *address);

/* Neither private, loopback, link-local, shared, multicast or reserved, nor one of those written as another. */
bool address_is_public(const struct sockaddr *address);
