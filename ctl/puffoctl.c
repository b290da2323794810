/* SPDX-License-Identifier: MIT */

/* One binary, two command lines: the name it is called by decides. */

#include "ctl-verbs.h"
#include "proxy.h"

int main(int argc, char *argv[]) {
        const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL, *name = slash      ? slash + 1
                                                                             : argc > 0 ? argv[0]
                                                                                        : "";

        return ctl_run(streq(name, "agent-proxy") ? &agent_proxy_program : &puffoctl_program, argc, argv);
}
