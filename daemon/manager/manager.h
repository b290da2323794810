/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "codex-settings.h"
#include "daemon-config.h"
#include "paths.h"
#include "scope.h"

typedef struct Agent Agent;
typedef struct CredentialRefresh CredentialRefresh;
typedef struct CredentialServer CredentialServer;
typedef struct HomeWatch HomeWatch;
typedef struct Manager Manager;
typedef struct Polkit Polkit;
typedef struct PrivateServer PrivateServer;
typedef struct SandboxProbe SandboxProbe;

/* puffod: the registry of agents and what keeps it true. Everything in here can be found out anew from the files and
 * from the service manager; nothing is lost with the process. */
struct Manager {
        Scope scope;
        sd_event *event;
        sd_bus *bus;                    /* public; the service manager is on it too */
        HomePaths *paths;
        DaemonConfig *config;           /* the last valid one */
        char *shown_providers;          /* as last emitted */
        char **problems;                /* pairs: directory, reason */
        uint64_t restart_usec;          /* RestartUSec= of sessions */
        uint64_t start_timeout_usec, connect_timeout_usec;      /* of Init and Hire, and of Start and Connect */
        uint64_t agent_limit;           /* of role agents */
        uint64_t turn_timeout_usec;     /* of role agents that have no runtime.task_timeout_seconds */
        uint64_t queue_limit;           /* of each agent's turns */
        CodexSettings codex;            /* for those that work with Codex */
        uid_t transfers[16];            /* imports and exports under way, by who asked for them */
        unsigned n_transfers;
        unsigned n_removals;            /* archiving or deleting that is at work */

        Agent **agents;                 /* sorted by id, manager first */
        size_t n_agents;
        uint32_t n_announced, n_ready, n_busy, n_problems;      /* as last emitted */
        char **addresses;               /* of the gateway */

        bool paired;
        char *pairing_slug, *pairing_device;
        char *pairing_problem;          /* as last logged */
        uint64_t paired_at;

        PrivateServer *private_server;
        CredentialServer *credential_server;
        CredentialRefresh *credential_refresh;  /* NULL before the first */
        HomeWatch *watch;
        Polkit *polkit;
        SandboxProbe *sandbox_probe;
        sd_bus_message *reader;         /* the call whose sender may see this (reader.c), while it is dispatched */
        uid_t reader_uid;
        bool reader_sees_all;
        sd_event_source *settle;        /* deferred: emits what changed, starts and stops what must be */
        bool bus_ready;                 /* units have been listed once; before that nothing is started */
        char *systemd_owner;            /* unique name of the service manager on the bus; NULL: not known yet */
        /* Called once, when the unit of each agent has been looked at: from then on what the bus shows is true. */
        void (*on_known)(Manager *m);
};

int manager_new(Manager **ret, Scope scope, sd_event *event);
/* Connects, exports, loads, takes over the listening sockets (either may be -EBADF). The descriptors are taken over.
 */
int manager_start(Manager *m, int private_fd, int credentials_fd);
Manager* manager_free(Manager *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(Manager*, manager_free);

/* Reads daemon.yml, the homes and pairing.json again and applies what changed. Keeps the old where the new is not
 * valid. */
int manager_rescan(Manager *m);
/* Something changed: have it emitted and acted upon when the loop comes round. */
void manager_queue_settle(Manager *m);
/* A unit has been looked at: on_known may be due. */
void manager_check_known(Manager *m);
Agent* manager_find_agent(Manager *m, const char *id);
/* The id in front of the names' grammar: lowered only when no agent has it exactly (agent-proxy §3). */
Agent* manager_find_agent_lenient(Manager *m, const char *text);

/* manager-bus.c, pairing-bus.c */
int manager_export(Manager *m);
int manager_sender_uid(sd_bus_message *message, uid_t *ret);
/* May there be one more agent of that owner? */
int manager_check_limits(const Manager *m, uid_t owner, sd_bus_error *reterr_error);
void manager_emit_changed(Manager *m);
/* As Hire, for an agent that has others work for it: they are its owner's. */
int manager_hire_for(Agent *boss, sd_bus_message *message, sd_bus_error *reterr_error);
int pairing_export(Manager *m);
/* Keeps m->addresses true (gateway-address.c). */
int gateway_address_watch(Manager *m);
int manager_reload_pairing(Manager *m);
bool pairing_property_is_private(const char *name);
/* The vtable of an interface as introspection XML on stdout, for --bus-introspect. */
int manager_print_introspection(const char *interface);

/* The one way from an errno of a lower layer to a D-Bus error with a text for a person. */
int manager_error(sd_bus_error *reterr_error, int r, const char *what, const char *detail);
