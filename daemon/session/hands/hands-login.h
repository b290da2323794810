/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli-login.h"
#include "cli-process.h"

/* Keeps the operator's login, of which the agent has a view, from expiring: has it refreshed five minutes before, and
 * at once when a turn finds it expired. */
typedef struct HandsLogin HandsLogin;

typedef struct HandsLoginSpec {
        sd_event *event;                /* borrowed */
        const CliBackend *backend;      /* borrowed */
        /* Looks at the login again, and renews the view. */
        int (*sync)(CliLogin *ret, void *userdata);
        /* A refresh that a turn may be waiting for has ended. logged_out: the operator has to log in again. */
        void (*on_done)(bool logged_out, void *userdata);
        void *userdata;
} HandsLoginSpec;

int hands_login_new(HandsLogin **ret, const HandsLoginSpec *spec);
HandsLogin* hands_login_free(HandsLogin *l);

/* A turn is to use this one. > 0: it has expired and is being refreshed, on_done() follows. */
int hands_login_use(HandsLogin *l, const CliLogin *login);
/* Renews the view, and says whether there is a login that a CLI could be let in with. */
bool hands_login_is_there(HandsLogin *l);
