/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* The agent's CLI as a process in a unit of its own (puffo-harness@ID.service), one at a time, and its three pipes.
 * They are in the service manager's store as well, so that a session that is restarted finds its CLI where it was. */
typedef struct CliProcess CliProcess;

typedef enum CliState {
        CLI_NONE,
        CLI_STARTING,
        CLI_RUNNING,
        CLI_FROZEN,
        CLI_STOPPING,           /* what is left of it is being ended */
        _CLI_STATE_MAX,
        _CLI_STATE_INVALID = -EINVAL,
} CliState;

/* What puffod needs to know (dbus/ai.puffo.Private1.Manager.xml, StartHarness). Borrowed. */
typedef struct CliStart {
        const char *description, *working_directory;
        char *const *read_write, *const *read_only;
        char *const *optional;          /* read-only, and no harm is done when it cannot be had */
        const char *const *sockets;     /* pairs: the path outside, the path inside */
        const char *launch;             /* JSON for puffo-sandbox, to be the first that it reads */
} CliStart;

/* How a unit ended. */
typedef struct CliEnd {
        const char *result;             /* of systemd: "exit-code", "signal", "oom-kill", …; "unknown" */
        int code, status;               /* CLD_EXITED and its status, CLD_KILLED and its signal, … */
        uint64_t memory_max;            /* of the slice; UINT64_MAX: none */
} CliEnd;

typedef struct CliCall CliCall;

/* Who starts and ends units: puffod, by way of the private bus; in tests somebody else. Each call answers once, from
 * the loop, with 0 or an error and its text, unless it is freed before. */
typedef struct CliBackend {
        /* -EBUSY: there is one still, or again. -EAGAIN: at present there can be none. */
        int (*start)(const CliStart *what, const int fds[static 3], void (*done)(int error, const char *text,
                     const char *invocation, void *userdata), void *userdata, CliCall **ret, void *backend);
        int (*wait)(const char *invocation, void (*done)(int error, const CliEnd *end, void *userdata),
                    void *userdata, CliCall **ret, void *backend);
        int (*stop)(void (*done)(int error, void *userdata), void *userdata, CliCall **ret, void *backend);
        int (*freeze)(bool freeze, void (*done)(int error, bool frozen, void *userdata), void *userdata, CliCall **ret,
                      void *backend);
        /* Has the operator's login with Anthropic refreshed; result: of the method RefreshCredentials. NULL: nobody
         * can. */
        int (*refresh)(void (*done)(int error, const char *result, void *userdata), void *userdata, CliCall **ret,
                       void *backend);
        CliCall* (*call_free)(CliCall *c);
        void *userdata;
} CliBackend;

typedef struct CliProcessSpec {
        sd_event *event;                /* borrowed */
        const CliBackend *backend;      /* borrowed */
        /* It runs, and fds are ours to keep: input, output, error output of the CLI, in this order. */
        void (*on_started)(const int fds[static 3], void *userdata);
        /* It could not be started; text may be NULL. */
        void (*on_failed)(int error, const char *text, void *userdata);
        void (*on_thawed)(void *userdata);
        /* Nothing is left of it. NULL: it was stopped by us. */
        void (*on_ended)(const CliEnd *end, void *userdata);
        void *userdata;
} CliProcessSpec;

int cli_process_new(CliProcess **ret, const CliProcessSpec *spec);
/* What runs goes on. */
CliProcess* cli_process_free(CliProcess *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(CliProcess*, cli_process_free);

CliState cli_process_state(const CliProcess *p);
/* Names the run: of use to cli_process_adopt(). "": none. */
const char* cli_process_invocation(const CliProcess *p);

/* What a process before us has left in the store; > 0: a CLI, whose pipes fds are now, its input -EBADF when that was
 * released. invocation: what was noted of it; NULL, "": nothing, and it is ended. Whether it is asleep is not known: it
 * counts as frozen until cli_process_thaw(). */
int cli_process_adopt(CliProcess *p, const char *invocation, int fds[static 3]);
/* Only with CLI_NONE. -E2BIG: launch is too long for a pipe. */
int cli_process_start(CliProcess *p, const CliStart *what);
/* Of one that was adopted: whether it can still be told anything. */
bool cli_process_has_input(const CliProcess *p);
/* Its input is about to end: the store's copy would keep it open. */
void cli_process_release_input(CliProcess *p);
/* Ends what runs or is being started, with everything that it has begun; on_ended(NULL) follows. */
void cli_process_stop(CliProcess *p);
/* So that it costs nothing but memory, where the system can do that; else nothing happens. */
void cli_process_freeze(CliProcess *p);
/* on_thawed() follows. */
int cli_process_thaw(CliProcess *p);
