/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"
#include "model.h"

/* A command line program with a model behind it (Claude Code, Codex, Gemini CLI, Hermes), spoken to over three pipes.
 * This room starts nothing and knows no bus: who starts the program hands over the descriptors.
 *
 * Nothing that the program says is lost when this process is killed: a line leaves the pipe only when the handlers of
 * all it says have returned. Who takes the pipes over sees it again, with the same ids. */
typedef struct Harness Harness;

typedef enum HarnessKind {
        HARNESS_CLAUDE,         /* Claude Code, one process for many turns */
        HARNESS_CLAUDE_SDK,     /* Claude Code, one process per turn, tools and permissions over its own pipes */
        HARNESS_GEMINI,         /* Gemini CLI, one process per turn */
        HARNESS_HERMES,         /* Hermes, one process per turn */
        HARNESS_CODEX,          /* Codex, "app-server": one process for many turns */
        HARNESS_CODEX_EXEC,     /* Codex, "exec": one process per turn, nothing can be asked or interrupted */
        _HARNESS_KIND_MAX,
        _HARNESS_KIND_INVALID = -EINVAL,
} HarnessKind;

const char* harness_kind_to_string(HarnessKind k);      /* "claude-code", "claude-sdk", "codex" … */
HarnessKind harness_kind_from_string(const char *s);
/* One process answers one turn: harness_turn() once, then it ends by itself. */
bool harness_is_per_turn(HarnessKind k);
/* It is told the turn's text by its launch, and can be told no other. */
bool harness_is_told_by_launch(HarnessKind k);
/* What goes with the turn is a part of its launch: it is of use to no other turn. */
bool harness_is_fitted_by_launch(HarnessKind k);

/* What a program is started and spoken to with. Strings are borrowed and may be NULL where nothing else is said. */
typedef struct HarnessSetup {
        HarnessKind kind;
        const char *program;            /* absolute; never NULL */
        const char *home, *workspace, *working_directory;       /* $HOME, workspace, where it runs; never NULL */
        const char *provider;           /* hermes: "anthropic" or "openai"; NULL, "": the first */
        const char *model;              /* NULL, "": the program's own choice */
        const char *permission_mode;    /* default, acceptEdits, plan, dontAsk, bypassPermissions; NULL: default */
        const char *mcp_config;         /* path of the MCP configuration */
        const char *system_prompt;      /* for those that take it by protocol (sdk, codex) or with the turn (hermes) */
        const char *session_id;         /* to go on with; NULL: a new conversation. One that this kind never gives out
                                         * counts as none */
        uint64_t max_turns;             /* sdk: calls of the model in a turn; 0: 10 */
        char *const *allowed_tools;     /* sdk: patterns, see tool-gate.h; Puffo's own tools are allowed without */
        bool puffo_tools;               /* sdk: on_mcp answers for an MCP server "puffo" */
        char *const *extra_dirs;        /* besides the working directory, for file tools */
        const char *model_token;        /* NULL: the program uses its own login; else model_socket is there */
        const char *model_socket, *proxy_socket;        /* paths as the program sees them */
        const char *prompt;             /* this turn's text, where it is part of the command line (hermes) */
        const char *codex_sandbox;      /* codex: its own, "read-only", "workspace-write", "danger-full-access" */
        bool codex_network;             /* … and whether what runs in it reaches the network */
        const char *codex_provider;     /* its model provider; NULL: its own choice, or the endpoint's */
        char *const *codex_config;      /* "key=value", whatever else it is to be told */
        const struct HarnessOptions *options;   /* codex exec: what goes with the turn that it is started for; but
                                                 * output_schema is the path of a file */
        uint64_t unreachable_usec;      /* codex: for so long it may wait for the model's endpoint; 0: two minutes */
        char *const *environment;       /* "NAME=value" to choose from: PATH, LANG, TZ, proxies, CA files … */
} HarnessSetup;

/* The launch, as JSON, for puffo-sandbox: argv, environment, working directory and sockets. "{model_port}" and
 * "{proxy_port}" in the environment are puffo-sandbox's to fill in. -EINVAL: setup that no program can be started
 * with, -ENOMEM, -E2BIG: over a MiB. */
int harness_launch(const HarnessSetup *s, char **ret_json);
/* Puts it into the pipe that becomes the program's standard input, before anything else: as a whole, and whether or
 * not somebody reads already. -E2BIG: that pipe cannot hold it. */
int harness_send_launch(int fd, const char *launch);

typedef enum HarnessOutcome {
        HARNESS_DONE,
        HARNESS_INTERRUPTED,
        HARNESS_ERROR,          /* the same again would end the same way */
        HARNESS_TRANSIENT,      /* rate limits, overload, no connection: worth another try later */
        HARNESS_AUTH,           /* login or key missing, wrong or expired */
        HARNESS_MAX_TURNS,      /* a limit of calls or of money was reached */
        HARNESS_GONE,           /* it ended amid the turn */
        HARNESS_LOST_SESSION,   /* it knows no conversation with the id it was to go on with: start a new one */
        HARNESS_PROTOCOL,       /* what it writes is not its protocol (a line over the limit), or it does not read what
                                 * it is told: stop it */
        HARNESS_UNFIT,          /* it cannot be worked with (too old, its configuration): message says what to do */
        HARNESS_UNREACHABLE,    /* it has waited for the model's endpoint for long enough */
        HARNESS_LIMIT,          /* what the account may use is used up; another try would not help */
        HARNESS_TOO_LONG,       /* the conversation does not fit into the model any more */
        _HARNESS_OUTCOME_MAX,
        _HARNESS_OUTCOME_INVALID = -EINVAL,
} HarnessOutcome;
const char* harness_outcome_to_string(HarnessOutcome o);

typedef struct HarnessResult {
        HarnessOutcome outcome;
        const char *message;            /* for logs and operators, never for a chat; "" when there is nothing to say */
        long http_status;               /* of the model's endpoint, 0 when not known */
        ModelUsage usage;               /* of this turn; all zero when not known */
        bool usage_is_total;            /* … no: of all turns of its conversation so far */
        uint64_t cost_micros;           /* of this turn, in millionths of a dollar, as the program estimates it */
        bool cost_known;                /* not after adoption, when what it had cost before is not known */
        size_t n_denied;                /* calls of tools that were not permitted */
        bool started;                   /* it had begun to work on the turn: the text is part of the conversation */
} HarnessResult;

typedef enum HarnessToolPhase {
        HARNESS_TOOL_STARTED,
        HARNESS_TOOL_ENDED,
} HarnessToolPhase;

typedef struct HarnessTool {
        HarnessToolPhase phase;
        const char *id;
        const char *name;               /* as the model knows it: Bash, mcp__puffo__send_message …; "" when ended and
                                         * begun before we came */
        const char *input;              /* JSON of an object; started only, else NULL */
        const char *output;             /* text; ended only, else NULL */
        const char *parent;             /* id of the call whose sub-agent calls this; NULL: the agent itself */
        bool is_error;
} HarnessTool;

typedef struct HarnessAsk {
        const char *id;                 /* for harness_answer() */
        const char *tool_id;            /* "": not said */
        const char *name, *input;       /* tool and JSON of its input: to be kept with the id, the answer needs it */
        const char *description;        /* the program's words about it; "" when there are none */
} HarnessAsk;

/* Every pointer to a function may be NULL but on_end and on_exit. They may call any function of this page, also
 * harness_free(). Those that return int return < 0 for "not taken": nothing more is read, the line stays in the pipe
 * for whoever takes it over, and on_failure tells so. */
typedef struct HarnessHandler {
        /* Text of the answer: a message is begun, grows, is complete. The same id begins anew when its line is seen
         * again, and its end has the whole text in any case. Text of sub-agents is not part of it. */
        int (*on_message_begin)(Harness *h, const char *id, void *userdata);
        int (*on_text)(Harness *h, const char *text, size_t size, void *userdata);
        int (*on_message_end)(Harness *h, const char *id, const char *text, void *userdata);
        /* The message that was begun will not come (the model's endpoint failed amid it and is asked again). */
        int (*on_message_cancel)(Harness *h, const char *id, void *userdata);
        int (*on_tool)(Harness *h, const HarnessTool *tool, void *userdata);
        /* The conversation has an id, or another one than before. */
        int (*on_session)(Harness *h, const char *session_id, void *userdata);
        /* Nothing goes on before harness_answer(). */
        int (*on_ask)(Harness *h, const HarnessAsk *ask, void *userdata);
        void (*on_ask_withdrawn)(Harness *h, const char *id, void *userdata);
        /* A JSON-RPC message for the MCP server "puffo": harness_mcp_reply() with the answer, or with NULL when it is
         * a notification. */
        int (*on_mcp)(Harness *h, const char *request_id, const char *message, void *userdata);
        /* The turn's text has gone into the pipe as a whole. Who dies before cannot tell how much of it has:
         * harness_turn_again(), or the program is to be stopped, not adopted. */
        void (*on_sent)(Harness *h, void *userdata);
        /* There is no more room for what is kept until the turn's end is handled: whoever takes the program over from
         * now on does not see the whole of its answer. */
        void (*on_drained)(Harness *h, void *userdata);
        /* It gets on: a piece of an answer, something of a tool, a question, an end. Not what says no more than that
         * it is there: keep-alives, notices of another try, whatever is on standard error or no line of its
         * protocol. */
        void (*on_progress)(Harness *h, void *userdata);
        void (*on_warning)(Harness *h, const char *text, void *userdata);       /* printable, bounded, not too many */
        int (*on_end)(Harness *h, const HarnessResult *result, void *userdata); /* of a turn, exactly once */
        void (*on_exit)(Harness *h, void *userdata);            /* all its output has been read; after on_end */
        void (*on_failure)(Harness *h, int error, void *userdata);
        void *userdata;
} HarnessHandler;

/* Takes the three descriptors (its standard input, output, error) over in any case, also on failure. The first may be
 * -EBADF: its input has ended. adopted: the program has been running under an earlier process, which may have died at
 * any point; it may say again what that process has seen. setup is that of the launch: kind, session_id, mcp_config, of
 * sdk system_prompt, allowed_tools and puffo_tools, and of codex all but the environment are looked at, and copied.
 * SIGPIPE must be ignored. */
int harness_new(Harness **ret, sd_event *event, const HarnessSetup *setup, const int fds[static 3], bool adopted,
                const HarnessHandler *handler);
Harness* harness_free(Harness *h);
DEFINE_TRIVIAL_CLEANUP_FUNC(Harness*, harness_free);

HarnessKind harness_kind(const Harness *h);
bool harness_in_turn(const Harness *h);

/* Begins a turn: one at a time. -EBUSY, -EPIPE: the program has ended, closed its input or does not read it,
 * -ENOMEM. */
int harness_turn(Harness *h, const char *text);
/* Makes it ready before there is a turn: it answers, is logged in, its conversation is open. This is a turn without a
 * text, whose on_end says how it went. 0: there is nothing to be done; > 0: on_end follows. -EBUSY, -EPIPE. */
int harness_prepare(Harness *h);
/* What goes with the next turn; strings are copied and may be NULL. Kinds that know nothing of it go without. */
typedef struct HarnessOptions {
        const char *output_schema;      /* JSON: the schema of the answer */
        const char *effort;             /* of the model's reasoning */
        char *const *images;            /* paths, as the program sees them */
} HarnessOptions;
int harness_set_options(Harness *h, const HarnessOptions *options);
/* The next turn is of that conversation; NULL: a new one. Not amid a turn. -EOPNOTSUPP: it has one only, or none. */
int harness_set_conversation(Harness *h, const char *session_id);

/* A turn that an earlier process began is waited for. last_message: id of the latest message of that turn that was
 * begun, NULL when there was none. */
int harness_turn_adopt(Harness *h, const char *last_message);
/* The same for a turn of which nobody knows whether its text was sent, in part or as a whole: it is sent again, under
 * the name that it had, and a program that has got it takes no notice. -EOPNOTSUPP: this kind would do it twice. */
int harness_turn_again(Harness *h, const char *text, const char *last_message);
/* What the program is to call the next turn, a UUID: with its name an earlier process's turn is known again. NULL, and
 * without this: any. */
int harness_name_turn(Harness *h, const char *name);
/* What the running turn has used so far, as far as it is known. */
void harness_usage(Harness *h, ModelUsage *ret);
/* on_end comes later, with whatever is true then. -EOPNOTSUPP: this kind can only be stopped. -ESRCH: no turn. */
int harness_interrupt(Harness *h);
/* Answers an ask, also one that an earlier process was asked. input: as it was asked, or another one to do instead;
 * may be NULL when this process was asked. message: why not, for the model. -ENOENT: no longer asked (never after
 * adoption). */
int harness_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message);
int harness_mcp_reply(Harness *h, const char *request_id, const char *message);
/* All that it was told is in its pipe, and reaches it whatever becomes of this process. */
bool harness_has_written(const Harness *h);
/* From the next call of the model on. NULL, "": the program's own choice. -EOPNOTSUPP. */
int harness_set_model(Harness *h, const char *model);
/* Asks it to end: what is still to be written is written, then its input is closed. It sees that when nobody else holds
 * a double, the descriptor store among them. Per-turn kinds do so themselves after the turn. */
void harness_close_input(Harness *h);
