/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-id128.h>

#include "agent.h"
#include "harness-request.h"

/* An agent's hands: puffo-harness@ID.service, which the session asks for and we keep in order. Whatever is known of it
 * comes from the service manager, so that a puffod that starts finds it again. */

typedef struct HarnessCall HarnessCall;
LIST_HEAD(HarnessCallList, HarnessCall);

/* How one came to its end. */
typedef struct HarnessEnd {
        sd_id128_t invocation;          /* null: none has ended that we know of */
        char *result;                   /* as the service manager says; "unknown" */
        int32_t code, status;
        uint64_t memory_max;
} HarnessEnd;

struct HarnessUnit {
        Agent *agent;                   /* borrowed: whose it is */
        char *name, *path;

        /* as the service manager says */
        char *active, *result;          /* active NULL: the unit is not loaded */
        sd_id128_t invocation;
        bool frozen;
        int32_t code, status;
        uint64_t memory_max;

        bool listed;                    /* it has been looked at once */
        bool refreshing, refresh_again;
        bool referenced;                /* the service manager keeps it for us */
        bool referencing;               /* … is about to */
        sd_bus_slot *refresh_slots[4];
        HarnessEnd end;

        /* a start that is under way */
        sd_bus_message *start;          /* the call that asks for it, with its descriptors */
        HarnessRequest *request;
        SandboxProfile profile;
        char *job;                      /* NULL: not asked for yet; "": being asked for */
        char *job_result;               /* of that, before the unit has been looked at again */
        sd_bus_slot *start_slot;
        sd_event_source *start_timer;
        bool in_the_way;                /* something with its name is to go first */

        bool stopping;                  /* until it is gone, or the service manager has refused too often */
        char *stop_job;
        sd_bus_slot *stop_slot;
        sd_event_source *stop_timer;    /* armed while a stop that was refused is about to be asked for again */
        unsigned n_stops_refused;       /* in succession */
        bool unread;                    /* not all of it was told when it was last looked at */
        sd_event_source *retry;         /* armed after an answer that was none */
        struct HarnessCallList calls;   /* who waits for what */
        unsigned n_calls;
};

int harness_unit_new(HarnessUnit **ret, Agent *a);
HarnessUnit* harness_unit_free(HarnessUnit *h);
DEFINE_TRIVIAL_CLEANUP_FUNC(HarnessUnit*, harness_unit_free);

/* none, starting, running, frozen. */
const char* harness_unit_state(const HarnessUnit *h);
/* Nothing of it is there, as far as is known, and nothing is on its way. */
bool harness_unit_is_gone(const HarnessUnit *h);
/* Counts as a start under way. */
bool harness_unit_is_starting(const HarnessUnit *h);

/* Looks at the unit again (harness-look.c); harness_unit_on_seen() follows when all of it has been told. */
void harness_unit_refresh(HarnessUnit *h);
void harness_unit_on_seen(HarnessUnit *h);
void harness_unit_on_job_removed(HarnessUnit *h, const char *job, const char *result);
void harness_unit_on_removed(HarnessUnit *h);
/* The ends of jobs may have been missed. */
void harness_unit_resync(HarnessUnit *h);
/* Goes on with a start that waits. Stops what has no session any more, which holds the other ends of its pipes. */
void harness_unit_settle(HarnessUnit *h, bool session_is_gone);
void harness_unit_stop(HarnessUnit *h);
/* Its agent's directory is gone: it is stopped without anybody waiting for that. */
void harness_unit_abandon(HarnessUnit *h);

/* The calls of a session; answered now or later. Methods: harness-bus.c. */
int harness_unit_start(HarnessUnit *h, sd_bus_message *call, HarnessRequest *request /* taken over */,
                       sd_bus_error *reterr_error);
int harness_unit_wait_stopped(HarnessUnit *h, sd_bus_message *call, sd_bus_error *reterr_error);
int harness_unit_wait_ended(HarnessUnit *h, sd_bus_message *call, sd_id128_t invocation, sd_bus_error *reterr_error);
int harness_unit_freeze(HarnessUnit *h, sd_bus_message *call, bool freeze, sd_bus_error *reterr_error);

/* harness-bus.c: methods of ai.puffo.Private1.Manager */
int harness_method_start(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int harness_method_stop(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int harness_method_freeze(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int harness_method_wait(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
/* The answer of WaitHarness. */
int harness_append_end(sd_bus_message *m, const HarnessEnd *end);
