/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* A caller who waits: its message is kept until the agent is where it should be, or the time is over. */
typedef enum PendingKind {
        PENDING_READY,          /* Start, Connect: "u" */
        PENDING_INIT,           /* "ou" */
        PENDING_HIRE,           /* "oub" */
        PENDING_GONE,           /* Stop: "" */
        PENDING_ARCHIVE,        /* "s" */
        PENDING_DELETE,         /* "" */
        PENDING_RELAY,          /* Submit and the like, until the session has registered */
} PendingKind;

struct Pending {
        LIST_ENTRY(Pending) entries;
        Agent *agent;
        PendingKind kind;
        sd_bus_message *call;
        sd_event_source *timeout;
        uint64_t timeout_usec;
        bool created;           /* Hire */
        bool prepare;           /* Init, Hire, Connect: what answers turns is to be there, not only who takes them */
        bool prepared;
        sd_bus_slot *preparing; /* the session is asked for that */
};

/* Keeps call (a reference of its own). reterr_error: there are too many already; may be NULL, as ret may. */
int pending_new(Agent *a, PendingKind kind, sd_bus_message *call, uint64_t timeout_usec, Pending **ret,
                sd_bus_error *reterr_error);
Pending* pending_free(Pending *p);
/* Answers those for whom a's present state is what they wait for. May free a's pending list members, never a. */
void pending_check(Agent *a);
/* The agent is going away: everybody gets NoSuchAgent. What is being removed goes on. */
void pending_fail_all(Agent *a);
/* Its agent is freed; NULL is fine. */
void removal_forget_agent(Removal *r);
