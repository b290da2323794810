/* SPDX-License-Identifier: MIT */
#pragma once

#include "puffo.h"
#include "tool.h"

/* A session's side of the chat service: there while agent.yml gives it an identity, with the tools that come with
 * one. The manager agent has tools without one, too: those by which others work for it. */
typedef struct ChatService ChatService;

/* Where the tools are served by the Model Context Protocol, below the agent's directory. */
#define CHAT_SERVICE_SOCKET "run/tools.sock"

typedef struct ChatServiceSpec {
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Approvals *approvals;
        const char *directory;          /* the agent's: where its tools' socket is */
        void (*on_changed)(void *userdata);
        void (*on_broken)(int error, void *userdata);
        void (*on_left)(void *userdata);        /* after chat_service_stop() */
        void (*on_tools_going)(void *userdata); /* the box of before: nobody may hold on to a call of it */
        /* A call of a tool, whoever made it, has ended (ToolBoxSpec). */
        void (*on_tool_ended)(const char *key, const char *name, json_object *arguments, const ToolResult *result,
                              void *userdata);
        ManagerLink* (*get_link)(void *userdata);       /* ToolBoxSpec */
        void *userdata;
} ChatServiceSpec;

/* What spec names is borrowed. */
int chat_service_new(ChatService **ret, const ChatServiceSpec *spec);
ChatService* chat_service_free(ChatService *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ChatService*, chat_service_free);

/* Joins, leaves or changes what the configuration says. An identity that cannot be used is a fault, not an error.
 * -ENOMEM. */
int chat_service_configure(ChatService *c, const SessionConfig *config);
/* The turn that runs is cut off and told to be, and stays one that begins again. */
void chat_service_interrupted(ChatService *c, const Turn *t);
/* Takes leave; nothing new is begun. on_left() follows, maybe from inside of this. */
void chat_service_stop(ChatService *c);

const char* chat_service_fault(const ChatService *c);           /* NULL: none */
const char* chat_service_status_text(const ChatService *c);     /* "": nothing to tell */
ToolBox* chat_service_tools(ChatService *c);                    /* NULL: none */

/* puffo_tell_operator(), when we are there. */
int chat_service_tell_operator(ChatService *c, const char *key, const char *text);
/* The provider takes the key (again), or there is more budget. */
void chat_service_resume(ChatService *c);
/* Members of the queue's driver. */
bool chat_service_offer(ChatService *c, uint64_t waiting_since_usec);
void chat_service_begun(ChatService *c, const Turn *t);
void chat_service_ending(ChatService *c, Turn *t, TurnResult *result);
int chat_service_also(ChatService *c, Database *db, const char *id, const TurnResult *result);
void chat_service_ended(ChatService *c, const Turn *t, const TurnResult *result);
