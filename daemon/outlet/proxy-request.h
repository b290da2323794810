/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* What a client asks of an HTTP proxy: a tunnel (CONNECT), or a plain http:// URL to be fetched (RFC 9112 §3.2). */
typedef struct ProxyRequest {
        bool is_tunnel;
        char *host;                     /* a name or an address as host-pattern.h knows them */
        uint16_t port;
        char *head;                     /* of a plain request: what the server gets instead; NULL for a tunnel */
} ProxyRequest;
void proxy_request_done(ProxyRequest *r);

/* How long the head at the beginning of data is, with its empty line; 0 when its end has not come yet. */
size_t proxy_head_size(const char *data, size_t size);
/* -EBADMSG: broken; -EOPNOTSUPP: nothing that a proxy is asked for; -ENOMEM. */
int proxy_request_parse(ProxyRequest *ret, const char *head, size_t size);
