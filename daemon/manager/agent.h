/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>
#include <systemd/sd-id128.h>

#include "agent-config.h"
#include "agent-home.h"
#include "manager.h"
#include "role.h"

typedef enum AgentState {
        AGENT_STOPPED,
        AGENT_STARTING,
        AGENT_READY,
        AGENT_BUSY,
        AGENT_RESTARTING,
        AGENT_STOPPING,
        AGENT_FAILED,
        AGENT_MISSING,
        _AGENT_STATE_MAX,
        _AGENT_STATE_INVALID = -EINVAL,
} AgentState;

const char* agent_state_to_string(AgentState s);

/* What a session reports that is busy with waiting for somebody's word. */
#define AGENT_WAITING_APPROVAL "waiting-approval"

typedef struct HarnessUnit HarnessUnit;
typedef struct Pending Pending;
typedef struct Relay Relay;
typedef struct Removal Removal;
typedef struct SessionLink SessionLink;
LIST_HEAD(PendingList, Pending);
LIST_HEAD(RelayList, Relay);

/* What the service manager says of the session unit. */
typedef struct UnitState {
        char *active, *sub, *result;
        uint32_t main_pid, n_restarts, job_id;
        sd_id128_t invocation;          /* null: not told */
        bool transient;
        char *slice;
} UnitState;

/* One agent: its files, its units, and who waits for it. Owned by the Manager that lists it. */
struct Agent {
        Manager *manager;
        AgentHome *home;
        AgentConfig *config;
        ResolvedModel model;
        uint64_t config_mtime_nsec;     /* of the agent.yml that was last looked at */
        char *config_problem;           /* why that one is not in force, else NULL */
        uid_t owner;

        char *path, *unit, *unit_path, *slice;
        const char *log_fields[4];
        char *log_field_agent, *log_field_unit;

        UnitState unit_state;
        sd_id128_t judged;              /* the run of which it is known whose it is */
        bool foreign;                   /* somebody else's: its name is all that it has of this agent */
        HarnessUnit *harness;
        SessionLink *link;              /* the session's connection, once it has registered */
        char *reported_status, *reported_text, *reported_health, *working_directory;
        /* What the session works with, where agent.yml leaves that to it; NULL: not known. */
        char *decided_kind, *decided_harness, *decided_provider, *decided_model;
        char **approvals;               /* ids of what it asks permission for */
        uint32_t queue_length;
        uint64_t messages_processed, last_event, created_at;

        AgentState state;               /* agent_set_state() only: it logs and has the change emitted */
        char *status_text;

        char *job; /* our start or stop job that is under way, or "" while it is being asked for */
        bool job_is_start;
        bool refreshing, refresh_again;
        sd_bus_slot *refresh_slots[7];
        sd_bus_slot *job_slot;
        sd_event_source *retry;         /* armed after a start that failed, or when the session ended by itself */
        bool stopping;                  /* we asked for its end, so that it is no surprise */
        bool stop_refused;              /* retry is armed for that */
        bool ended;                     /* it ended by itself and without an error: retry is armed for that */
        bool start_ended;               /* so did our job; what has come of it is not known yet */
        unsigned n_ends;                /* such ends in succession, each before it had run for long */
        uint64_t up_since_usec;         /* CLOCK_BOOTTIME; 0: it is not up */
        bool in_the_way;                /* a unit of its name was there at the start: retry is armed for that */
        bool in_the_way_before;         /* … and has stayed until retry was due */
        bool missing;                   /* a role agent's workspace is gone: nothing to be started in */
        bool removing;                  /* archive or delete is waiting for the units to go, or at work */
        Removal *removal;               /* borrowed; the one that is at work */
        bool working_directory_pending; /* given to Connect, not yet told to the session */
        bool restart_when_idle;         /* what the session was started with is out of date */
        bool listed;                    /* its unit has been looked at once */
        bool adopted;                   /* it ran before us: that it is ready is no news */
        Limits limits;                  /* as last given to its slice; all zero: unknown */
        uint8_t credential_hash[32];    /* of what the session was given; all zero: unknown */

        struct PendingList pending;
        unsigned n_pending;
        struct RelayList relays;        /* borrowed; calls that its session has not answered yet */
        unsigned n_relays;
        unsigned dirty;                 /* AGENT_DIRTY_*: property groups to emit */
        bool announced;
};

enum {
        AGENT_DIRTY_STATE = 1 << 0,
        AGENT_DIRTY_CONFIG = 1 << 1,
        AGENT_DIRTY_REPORT = 1 << 2,
};

/* home is taken over. */
int agent_new(Agent **ret, Manager *m, AgentHome *home);
Agent* agent_free(Agent *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(Agent*, agent_free);

#define log_agent(a, level, error, ...) log_fields(level, error, (a)->log_fields, __VA_ARGS__)

/* Reads agent.yml again when it has changed. > 0: there is another configuration. -EBADMSG with *reterr, as long as
 * the file is not put right: the configuration from before stays in force and is not to be written over the file. */
int agent_load(Agent *a, char **reterr);
/* resolve_model(), and who may have the key. */
int agent_resolve_model(const Manager *m, const AgentConfig *c, ResolvedModel *ret);
/* What its slice gets. In system mode agent.yml, which the agent's own user writes, can only ask for less than the
 * daemon's: true when it asks for more. */
bool agent_limits(const Manager *m, const AgentConfig *c, Limits *ret);
/* Whose it is may be written down just after its directory has come. */
void agent_read_owner(Agent *a);
/* The desired state, into agent.yml. */
int agent_set_desired(Agent *a, bool running);
/* Rewrites agent.yml after config was changed, then applies it. */
int agent_save(Agent *a);
/* Whether it is to run: as its agent.yml says, and as far as it can. */
bool agent_is_wanted(const Agent *a);
/* A role agent's workspace may have gone, or come back. */
void agent_look_for_workspace(Agent *a);
/* Works the state out of unit and report, answers whoever waited for it, has changes emitted. */
void agent_evaluate(Agent *a);
/* A role whose agent.yml does not say what it works with: its session decides that. */
bool agent_decides_itself(const Agent *a);
/* What of the configuration goes to the session when it starts: see credentials.c. */
int agent_credential(Agent *a, char **ret, size_t *ret_size);
/* Compares it with what the session has, which is started again when it is idle if that is out of date. */
void agent_check_credential(Agent *a);
/* The session says by its hash which credential it has: a puffod before this one gave it. */
void agent_adopt_credential(Agent *a, const char *hex);
/* It is going: nothing is to be done with it any more. */
int agent_check_stays(const Agent *a, sd_bus_error *reterr_error);
/* A role agent's role and name, "" otherwise. */
bool agent_is_manager(const Agent *a);
/* State from the unit's ActiveState and SubState, the session's report and the desired state; pure, for tests. */
AgentState agent_state_derive(const char *active, const char *sub, const char *reported, bool desired_running);

/* agent-bus.c */
int agent_export(Manager *m);
/* For its owner only, in system mode. */
bool agent_property_is_private(const char *name);
/* What has changed since the last time; a new agent is announced first. */
void agent_emit_changed(Agent *a);
/* agent-file-bus.c: methods listed in agent-bus.c's vtable */
int agent_method_read_profile(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_write_profile(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_list_memory(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_read_memory(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_list_files(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_open_file(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
/* agent-insight-bus.c */
int agent_method_open_journal(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_get_processes(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_export(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
