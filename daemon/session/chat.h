/* SPDX-License-Identifier: MIT */
#pragma once

#include "budget.h"
#include "chat-tools.h"
#include "model-client.h"
#include "session-config.h"
#include "turn.h"

/* Answers turns by direct calls of a model provider (kind chat-local), one at a time. */
typedef struct Chat Chat;

typedef enum ChatHealth {
        CHAT_HEALTH_UNKNOWN,
        CHAT_HEALTH_OK,
        CHAT_HEALTH_AUTH_FAILED,
} ChatHealth;

typedef struct ChatSpec {
        sd_event *event;                /* borrowed */
        Database *db;                   /* borrowed */
        Budget *budget;                 /* borrowed; asked before each call of the model; NULL: no limits */
        const ModelBackend *backend;    /* NULL: model_client_backend */
        const ChatTools *tools;         /* NULL: chat_tools */
        /* The box that they work with, as of now, asked for before each step; NULL: no tools. chat_drop_tools() before
         * it goes. May be NULL. */
        ToolBox* (*get_box)(void *userdata);
        /* Waits between attempts, instead of the built-in ones when max is not 0. */
        uint64_t retry_min_usec, retry_max_usec;
        /* The configuration as of now; the result is the chat's to free. */
        int (*get_config)(SessionConfig **ret, void *userdata);
        /* The answer to the turn; called exactly once for each chat_start() that was not cancelled. */
        void (*on_end)(Turn *t, TurnResult *result, void *userdata);
        void (*on_health)(ChatHealth health, void *userdata);
        /* One line on what the turn waits for, NULL: nothing any more. */
        void (*on_waiting)(const char *text, void *userdata);
        /* The database is damaged; the turn has ended. */
        void (*on_broken)(int error, void *userdata);
        void *userdata;
} ChatSpec;

int chat_new(Chat **ret, const ChatSpec *spec);
Chat* chat_free(Chat *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Chat*, chat_free);

/* Takes row over, on failure too. Does not call back itself. */
int chat_start(Chat *c, Turn *t, TurnRow *row);
void chat_cancel(Chat *c);
/* Forgets the call of a tool that is under way; it is made again with the next box, under its old key. */
void chat_drop_tools(Chat *c);
/* Ends the process that was kept for the next call. Not during a turn. */
void chat_trim(Chat *c);
