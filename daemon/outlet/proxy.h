/* SPDX-License-Identifier: MIT */
#pragma once

#include "http-client.h"

/* The one way out of the strict profile besides the model endpoint: an HTTP proxy to the hosts on the agent's list,
 * and to no other. Each connection is a line in the journal. */
typedef struct Proxy Proxy;

typedef struct ProxySpec {
        sd_event *event;
        HttpClient *http;               /* finds names and connects */
        int listen_fd;                  /* non-blocking; taken over, on failure too */
        void (*on_idle)(void *userdata);        /* the last connection has ended */
        void *userdata;
} ProxySpec;

int proxy_new(Proxy **ret, const ProxySpec *spec);
Proxy* proxy_free(Proxy *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Proxy*, proxy_free);

/* Copies the list (host-pattern.h); connections that stand, stay. */
int proxy_configure(Proxy *p, char *const *allow_hosts);
unsigned proxy_n_connections(const Proxy *p);
/* Takes no more of them. */
void proxy_quiesce(Proxy *p);
