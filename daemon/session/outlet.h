/* SPDX-License-Identifier: MIT */
#pragma once

#include "budget.h"
#include "session-config.h"

/* The session's model endpoint and, for the profile strict, its proxy: <agent>/run/model.sock and proxy.sock. A CLI
 * never has the provider's key: it has a token of ours and this endpoint, which puts the key in the token's place,
 * counts tokens, and refuses when the budget is used up. The listening sockets are held here, and puffo-outlet, a
 * process of its own, is started when somebody connects to one of them; it ends when there has been nothing to do for
 * a minute. When it dies, nothing is lost but what it was doing; the next connection starts it again. */
typedef struct Outlet Outlet;

/* One request that the provider has answered, well or not. Strings are borrowed for the call. */
typedef struct OutletUsage {
        const char *model;              /* as the provider calls it, "" when it did not say */
        unsigned status;                /* the provider's; 0: it could not be reached */
        ModelUsage usage;
        bool estimated;                 /* the answer broke off or had no counts: of its size, and the request's */
        uint64_t cost_micro;            /* µ$ by the prices of the configuration; 0 when there are none */
} OutletUsage;

typedef struct OutletSpec {
        sd_event *event;                /* borrowed */
        const char *agent;              /* its id, for the journal; copied */
        int model_fd, proxy_fd;         /* listening Unix sockets, taken over, on failure too; -EBADF: none */
        const char *program;            /* NULL: puffo-outlet beside our own */
        const char *ca_file;            /* trusted in addition for the provider; NULL: none. Copied */
        uint64_t idle_usec;             /* how long the process waits for more; 0: a minute */
        Budget *budget;                 /* borrowed; asked before and told of each call of a model. NULL: no limits */
        /* The configuration as of now, asked for when the process starts and by outlet_reload(); the result is
         * freed here. Of it are used: provider, base_url, api_key, agent->allow_hosts. A fault in it refuses all
         * requests. */
        int (*get_config)(SessionConfig **ret, void *userdata);
        /* After budget_add(). May be NULL. Must not free the outlet. */
        void (*on_usage)(Outlet *o, const OutletUsage *usage, void *userdata);
        void *userdata;
} OutletSpec;

/* Watches the sockets. SIGCHLD must be blocked. */
int outlet_new(Outlet **ret, const OutletSpec *spec);
/* Ends the process, and with it what it is doing. */
Outlet* outlet_free(Outlet *o);
DEFINE_TRIVIAL_CLEANUP_FUNC(Outlet*, outlet_free);

/* A fresh token (43 characters of base64url) for the CLI that is about to be started: the only one that is right from
 * now on. Borrowed until the next call of these. */
int outlet_new_token(Outlet *o, const char **ret);
/* The token of a CLI that was started by an earlier process of the session; "": none is right, as in the beginning.
 * -EINVAL: it cannot be one. */
int outlet_set_token(Outlet *o, const char *token);

/* The configuration has changed. Requests under way go on with the old one. */
int outlet_reload(Outlet *o);
