/* SPDX-License-Identifier: MIT */
#pragma once

#include "harness.h"
#include "json-util.h"
#include "line-reader.h"
#include "string-util.h"

/* What the programs differ in, and what a running one is made of. Inside this room only. */

#define HARNESS_LINE_MAX MIB(16)
/* Of what waits to be read by the program: the longest turn there is, with every byte of it escaped, and beside it the
 * answer to the longest question. */
#define HARNESS_QUEUE_MAX (2 * HARNESS_LINE_MAX)

/* What harness_launch() makes of a setup. */
typedef struct HarnessLaunch {
        char **argv, **env;
        size_t port_argument;           /* index of the argument of the form "name=value" with a port in it; 0: none */
} HarnessLaunch;

/* -ENOMEM. Values are given as "--flag=value": whatever stands in them is no flag of its own. */
int launch_add(HarnessLaunch *l, const char *argument);
int launch_add_value(HarnessLaunch *l, const char *flag, const char *value);
int launch_set(HarnessLaunch *l, const char *name, const char *value);
/* What follows "[" in a model's name is Claude Code's own. NULL: -ENOMEM. */
char* launch_model(const char *model);

typedef struct HarnessDriver {
        const char *name;
        bool per_turn, told_by_launch, fitted_by_launch;        /* told_by_launch: fitted as well */

        /* argv[0] is there already, and of the environment $HOME and what every program may have: $PATH, language,
         * time zone, proxies (the proxy of the sandbox where there is one) and CA files. */
        int (*launch)(const HarnessSetup *s, HarnessLaunch *l);

        /* Makes state, and with a fresh program may write. */
        int (*start)(Harness *h, const HarnessSetup *s);
        void (*free)(Harness *h);

        /* Writes the turn's text. May be NULL when it is part of the launch. > 0: it is written later, and then
         * harness_text_written() called. */
        int (*turn)(Harness *h, const char *text);
        /* harness_prepare(). Or NULL: whatever runs is ready. */
        int (*prepare)(Harness *h);
        int (*adopt_turn)(Harness *h, const char *last_message);        /* or NULL */
        /* After adopt_turn: writes what may have been written, so that it counts once. Or NULL: not supported. */
        int (*again)(Harness *h, const char *text);
        /* Of the running turn so far. Or NULL: not known before its end. */
        void (*usage)(Harness *h, ModelUsage *ret);
        /* A turn ends, for whatever reason: what it leaves open is cancelled and withdrawn. Or NULL. */
        int (*turn_over)(Harness *h);

        /* A line of standard output, valid or not, but not one that was too long. < 0: not taken (-ENOMEM, what a
         * handler returned). */
        int (*line)(Harness *h, const char *line, size_t size);
        /* Of standard error. > 0: it is of no interest to anybody else, else it becomes a warning. */
        int (*error_line)(Harness *h, const char *line, size_t size);
        /* All of standard output was read, and of standard error what there is. A turn that goes on after this call
         * is ended as HARNESS_GONE. */
        int (*eof)(Harness *h);

        /* Each may be NULL: not supported. */
        int (*interrupt)(Harness *h);
        int (*answer)(Harness *h, const char *ask_id, bool allow, const char *input, const char *message);
        int (*mcp_reply)(Harness *h, const char *request_id, const char *message);
        int (*set_model)(Harness *h, const char *model);
        int (*set_conversation)(Harness *h, const char *session_id);
} HarnessDriver;

extern const HarnessDriver claude_driver, claude_sdk_driver, codex_driver, codex_exec_driver, gemini_driver,
        hermes_driver;
const HarnessDriver* harness_driver_get(HarnessKind k);

typedef enum TurnState {
        TURN_NONE,
        TURN_WAITING,           /* what is old is read first: none of it answers this turn */
        TURN_RUNNING,
} TurnState;

struct Harness {
        unsigned n_ref;                 /* its owner's, and each running function's that calls handlers */
        bool dead;                      /* its owner has freed it: nobody is called any more */
        HarnessKind kind;
        const HarnessDriver *driver;
        void *state;                    /* the driver's */
        HarnessHandler handler;
        sd_event *event;

        int input;
        sd_event_source *input_io;
        StrBuf queue;                   /* to be written */
        size_t n_queue_written;         /* of it */
        bool closing;                   /* no more comes after it */
        bool announce_sent;
        sd_event_source *deaf;          /* exists from when more waits for it than it may */
        LineReader *output, *errors;
        bool ended;                     /* all of standard output was read */

        bool adopted;
        bool settled;                   /* whatever was in the pipe when it was taken over has been read */
        TurnState turn;
        char *turn_text;                /* while it waits; NULL: a turn without a text */
        char *output_schema, *effort, **images;         /* HarnessOptions */
        char *turn_name;                /* of the next or running turn, NULL: any */
        bool interrupting;              /* harness_interrupt() was called in this turn */

        StrBuf tail;                    /* of standard error */
        uint64_t warnings_since_usec;
        unsigned n_warnings, n_unsaid;
};

/* Tell the handler. 0 when there is none, or nobody cares any more. */
/* What a driver has read is more than a sign of life (HarnessHandler). */
void harness_say_progress(Harness *h);
int harness_say_message_begin(Harness *h, const char *id);
int harness_say_text(Harness *h, const char *text, size_t size);
int harness_say_message_end(Harness *h, const char *id, const char *text);
int harness_say_message_cancel(Harness *h, const char *id);
int harness_say_tool(Harness *h, const HarnessTool *tool);
int harness_say_session(Harness *h, const char *session_id);
int harness_say_ask(Harness *h, const HarnessAsk *ask);
void harness_say_ask_withdrawn(Harness *h, const char *id);
int harness_say_mcp(Harness *h, const char *request_id, const char *message);
/* Bounded, made printable, and not too many of them. */
void harness_warn(Harness *h, const char *format, ...) _printf_(2, 3);

/* Ends the turn, when there is one. result may point into state that turn_over() keeps. */
int harness_end_turn(Harness *h, const HarnessResult *result);
/* The end of what came on standard error, printable; NULL: -ENOMEM. */
char* harness_error_tail(Harness *h);

/* For what a driver does by itself, out of the event loop: handlers may free h meanwhile. error < 0 goes to the
 * handler. */
Harness* harness_hold(Harness *h);
void harness_release(Harness *h, int error);
/* See turn() above. */
int harness_text_written(Harness *h);

/* Writes, now or as soon as there is room. -EPIPE: nobody reads any more. Of a program that has left too much unread
 * everything is dropped, and the turn ends as soon as the loop comes round. */
int harness_write(Harness *h, const char *data, size_t size);
int harness_write_json(Harness *h, json_object *line);

/* From within line(): neither this line nor those that were kept before it leave the pipe before one is not kept, so
 * that whoever takes over sees them again. */
void harness_keep_line(Harness *h);

/* The text of a JSON string, without what a C string cannot hold. *ret is NULL when o is none. -ENOMEM. */
int harness_text_of(json_object *o, char **ret);
/* A line: a JSON object of any sensible size and depth. -EBADMSG, -ENOMEM. */
int harness_parse(const char *line, size_t size, json_object **ret);
/* The same for a driver whose program says one object a line: hands it to take. An empty line is nothing, one that is
 * no object a warning or, when it is long, the end of the turn. */
int harness_take_object(Harness *h, const char *line, size_t size, int (*take)(Harness *h, json_object *o));
