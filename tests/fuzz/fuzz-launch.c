/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "launch.h"
#include "string-util.h"

/* What is accepted can be given to execve(2), and has its ports in it; what is not has a reason of one line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(launch_freep) Launch *l = NULL;
        _cleanup_free_ char *reason = NULL;
        size_t n;
        int r = -EBADMSG;

        if (size >= LAUNCH_HEAD_SIZE && launch_parse_head((const char*) data, &n, &reason) >= 0) {
                if (n > LAUNCH_SIZE_MAX)
                        abort();
                r = launch_parse((const char*) data + LAUNCH_HEAD_SIZE, size - LAUNCH_HEAD_SIZE, &l, &reason);
                if (r < 0 && (r != -EBADMSG || !reason || strpbrk(reason, "\r\n")))
                        abort();
        }
        if (r < 0)
                return 0;
        if (*l->argv[0] != '/' || *l->cwd != '/')
                abort();
        for (char **e = l->environment; *e; e++)
                if (!strchr(*e, '=') || **e == '=')
                        abort();
        if (launch_set_ports(l, 65535, 1, &reason) < 0)
                abort();
        for (char **e = l->environment; *e; e++)
                if (strstr(*e, "{model_port}") || strstr(*e, "{proxy_port}"))
                        abort();
        return 0;
}
