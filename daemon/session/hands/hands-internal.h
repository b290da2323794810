/* SPDX-License-Identifier: MIT */
#pragma once

#include "chat-steps.h"
#include "hands.h"
#include "hands-asks.h"
#include "hands-audit.h"
#include "hands-launch.h"
#include "hands-login.h"
#include "hands-mcp.h"
#include "run-store.h"

/* What the files of hands.h share: hands.c, the life of it and the turn's; hands-attempt.c, from a turn to the CLI;
 * hands-talk.c, from the CLI to the turn; hands-process.c, how the CLI comes, sleeps and goes. */

/* To be stopped when its input has ended and it has not. */
#define HANDS_CLOSE_USEC (3 * USEC_PER_SEC)
/* A CLI that has crashed is not started again sooner (agent-runtime §19). */
#define HANDS_CRASH_PAUSE_USEC (10 * USEC_PER_SEC)
/* For a turn of before to begin again, when its CLI was found at it. */
#define HANDS_FOUND_USEC (60 * USEC_PER_SEC)

/* message-pipeline §§11.5, 11.6 */
#define HANDS_LIMITED_LINE \
        "[puffo-agent system message] the last turn was interrupted by a limit of the model provider; continue with " \
        "it now."
#define HANDS_REFUSED_LINE \
        "[puffo-agent system message] the last turn was interrupted because the model provider did not accept the " \
        "login; continue with it now."
#define HANDS_RESTARTED_LINE \
        "[puffo-agent system message] you were restarted in the middle of the last turn. Finish it now; what you " \
        "have sent already does not have to be sent again. If it is finished, say nothing more than [SILENT]."

/* … of which nobody knows whether it has come to be a part of the conversation. It goes in front of its text. */
#define HANDS_UNSURE_LINE \
        "[puffo-agent system message] you were restarted while what follows was on its way to you. If you have had " \
        "it before, finish what is left of it; what you have sent already does not have to be sent again."

struct Hands {
        HandsSpec spec;
        char *directory;
        CliProcess *process;
        Harness *driver;                /* NULL: nothing runs, or nobody speaks to it any more */
        HandsMcp *mcp;                  /* exists with a driver of sdk-local */
        HandsAsks *asks;
        HandsLogin *login;
        HandsAudit audit;
        HandsLaunch launch;             /* of what runs or is being started */
        HarnessRun *run;                /* of what runs, or else what ran last, as it is stored; NULL: nothing yet */
        bool fresh;                     /* … and has not been given anything yet: what it is to get is noted already */
        bool adopted;                   /* the CLI was somebody else's before: what it is doing is not known yet */
        int found[3];                   /* its pipes, until its turn begins again: what it says before were lost */
        bool ended, has_end;            /* it has ended, and what it has said last is being read; has_end: by itself */
        CliEnd end;
        char end_result[32];
        bool dropped;                   /* it is to be ended when it is idle */
        bool spent;                     /* it has had the one turn that it lives for */

        Turn *turn;                     /* borrowed from the queue; NULL: idle */
        TurnRow *row;
        ChatSteps steps;
        bool working;                   /* what the CLI does is this turn */
        bool has_it;                    /* the text of this turn is part of the CLI's conversation */
        bool repeated;                  /* once after an end that nobody wanted */
        const char *kick;               /* HANDS_…_LINE: what is sent instead of the text, NULL: that itself */
        char prompt[65];                /* hash of what a CLI is told of itself with the text; "": nothing */
        char *open;                     /* the CLI's id of the message that grows, or NULL */
        bool known;                     /* … which was stored before */
        size_t streamed;                /* bytes of it */
        unsigned n_retries, n_refusals, n_tools;        /* n_refusals: of the login */
        unsigned n_unasked;             /* so many CLIs have ended before they got the turn's text */
        uint64_t task_timeout_usec, progress_usec;
        uint64_t not_before_usec;       /* of a pause: nothing that happens begins the next attempt sooner; 0: none */
        uint64_t freeze_after_usec, stop_after_usec;    /* of the configuration */
        uint64_t freeze_usec, stop_usec;
        SessionConfig *config;          /* as the turn began, for its first attempt; NULL: to be read */
        char *gone;                     /* the CLI has ended amid the turn: its last words; its cause is waited for */

        /* Without a turn (hands-prepare.c). */
        bool preparing;                 /* the CLI is to be made ready, and whoever wants that waits */
        bool handshaking;               /* … and it is about to be */
        char *unready;                  /* it has ended over that: its last words; its cause is waited for */
        uint64_t patience_usec;

        sd_event_source *attempt, *silence, *limit, *idle, *patience;
};

/* --- hands.c --- */

void hands_timer_stop(sd_event_source *s);
/* With the turn's field; error 0: none. detail may be NULL. */
void hands_log(const Hands *h, int level, int error, const char *text, const char *detail);
void hands_tell_waiting(Hands *h, const char *text);
/* Of storing what the run is: without it the CLI can do its work, only nobody can take it over. */
void hands_stored(Hands *h, int r);
/* There is nothing left of what runs. */
void hands_run_end(Hands *h);
/* What the run has used goes to the budget, once. *ret_cost_micro: what it cost. */
void hands_charge(Hands *h, const ModelUsage *u, uint64_t known_cost_micro, uint64_t *ret_cost_micro);
/* … and to the turn's sum. */
void hands_count(Turn *t, const ModelUsage *u, uint64_t cost_micro);
/* The CLI is not at work at what it has got last: whoever takes it over has nothing to wait for. */
void hands_forget_sent(Hands *h);
/* Nobody speaks to the CLI any more. */
void hands_driver_drop(Hands *h);
void hands_attempt_after(Hands *h, uint64_t delay);
/* … and not sooner, whatever happens meanwhile. */
void hands_pause(Hands *h, uint64_t delay);
/* Something has happened that the turn may have been waiting for. */
void hands_go_on(Hands *h);
void hands_turn_end(Hands *h, TurnResult *result);
void hands_fail(Hands *h, const char *code, const char *kind, const char *message);
void hands_fail_errno(Hands *h, int error, const char *text);
/* Stops the CLI when it has not come to an end by itself by then. */
void hands_limit_arm(Hands *h, uint64_t usec);
/* Asks the CLI to end, and sees to it. */
void hands_end_process(Hands *h);

/* --- hands-conversation.c --- */

/* The CLI is for this conversation of the database: where it has several, another one takes another process, or is
 * told to one that runs. */
int hands_conversation_choose(HandsLaunch *l, const char *conversation);
int hands_conversation_use(Hands *h, const SessionConfig *config, const HandsLaunch *wanted);
/* The id by which the CLI knows the conversation of h->launch; 0: it does not, *ret is NULL. */
int hands_conversation_load(Hands *h, const SessionConfig *config, char **ret);
/* That of h->run. session_id NULL: forget it. */
int hands_conversation_save(Hands *h, const char *session_id);
/* Puts system in front of *text for a CLI that reads it nowhere, when its conversation does not know it as it is now. */
int hands_prompt_add(Hands *h, const char *system, char **text);
/* The conversation knows it now. */
int hands_prompt_told(Hands *h);

/* --- hands-options.c --- */

/* What goes with a turn's text: the schema of the answer, the effort, images. */
typedef struct HandsOptions {
        HarnessOptions options;         /* borrowed from the others */
        json_object *document;
        char **images;
} HandsOptions;
void hands_options_done(HandsOptions *o);
int hands_options_read(const TurnRow *row, HandsOptions *ret);
/* Tells the CLI. */
int hands_options_use(Hands *h);

/* --- hands-total.c --- */

/* A conversation of this id begins, of which nothing has been counted yet. */
int hands_total_begin(Hands *h, const char *session_id);
/* usage: of the whole conversation; becomes that of the turn. */
int hands_total_take(Hands *h, ModelUsage *usage);

/* --- hands-attempt.c --- */

/* Notes in run that it is given this turn, and names what it is given; does not store it. */
int hands_run_give(HarnessRun *run, const char *turn, const char *kick);
/* Gives the turn to the CLI, or does what must be done first; whatever it waits for then calls hands_go_on(). > 0: the
 * turn has ended. */
int hands_attempt(Hands *h);
/* > 0: there is no budget left, and the turn has been answered with that. */
int hands_budget_refuses(Hands *h);
/* Speaks to a CLI that was found running. */
int hands_driver_adopt(Hands *h);
/* The CLI that was found is nobody's. */
void hands_give_up_found(Hands *h);
/* What the configuration says of a CLI that has nothing to do. */
void hands_configure(Hands *h, const SessionConfig *config);

/* h->launch is prepared; for the turn, if there is one. */
int hands_start_process(Hands *h, const SessionConfig *config);

/* --- hands-prepare.c --- */

/* It is ready, or cannot be. */
void hands_prepared(Hands *h, const char *fault);
void hands_prepare_go_on(Hands *h);
void hands_handshake_ended(Hands *h, const HarnessResult *result);
/* As hands_on_process_failed() and hands_process_gone(), without a turn. cause may be NULL. */
void hands_prepare_failed(Hands *h, int error, const char *text);
void hands_prepare_gone(Hands *h, const char *cause);

/* --- hands-talk.c --- */

/* The CLI says that there is no such conversation. It is about to end by itself. */
void hands_lose_conversation(Hands *h);

/* Speaks to a CLI; takes fds over. */
int hands_driver_new(Hands *h, const int fds[static 3], bool adopted);

/* --- hands-process.c --- */

void hands_idle_begin(Hands *h);
/* A CLI that has crashed is not started again sooner. */
uint64_t hands_crash_pause(const Hands *h);
/* It has ended, and there is nothing more to be read of it. */
void hands_process_gone(Hands *h);
/* Members of CliProcessSpec. */
void hands_on_process_started(const int fds[static 3], void *userdata);
void hands_on_process_failed(int error, const char *text, void *userdata);
void hands_on_process_ended(const CliEnd *end, void *userdata);
void hands_on_process_thawed(void *userdata);
