/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "host-pattern.h"
#include "proxy-request.h"

/* A head is either refused, or names a host that a list can have; and what the server gets instead is one head, which
 * says what it is taken for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        size_t n = proxy_head_size((const char*) data, size);
        _cleanup_(proxy_request_done) ProxyRequest r = {};
        _cleanup_free_ char *host = NULL;
        const char *line;

        if (n == 0 || proxy_request_parse(&r, (const char*) data, n) < 0)
                return 0;
        if ((!host_name_is_valid(r.host) && !host_address_is_valid(r.host)) || r.port == 0 || r.is_tunnel == !!r.head)
                abort();
        if (r.is_tunnel)
                return 0;
        if (proxy_head_size(r.head, strlen(r.head)) != strlen(r.head))
                abort();
        host = strjoin("\r\nHost: ", r.host);
        line = host ? strstr(r.head, host) : r.head;
        if (!line || (host && strstr(line + 1, "\r\nHost: ")) || !strstr(r.head, "\r\nConnection: close\r\n"))
                abort();
        return 0;
}
