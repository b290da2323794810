/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* What was said in a conversation; "" is the main one. Written by turn_store_finish(). */
typedef struct ConversationMessage {
        int64_t seq;            /* its id */
        bool assistant;
        char *context;          /* what the model got in front of the text; not shown to people */
        char *text, *turn;
        char *files;            /* TurnRow.files of a user's text, else "" */
        uint64_t created_usec;
} ConversationMessage;
void conversation_messages_free(ConversationMessage *m, size_t n);

/* The newest messages (at most limit) older than before (0: from the end), oldest first; *ret_more: there are older
 * ones. max_bytes: of all texts together, 0 for no bound; the newest message is returned in any case. */
int conversation_list(Database *db, const char *conversation, int64_t before, size_t limit, size_t max_bytes,
                      ConversationMessage **ret, size_t *ret_n, bool *ret_more);

typedef struct Retention {
        uint64_t turns_usec;            /* ended turns live so long … */
        uint64_t turns_max;             /* … and at most so many of them */
        uint64_t unstored_usec;         /* turns that were not to be stored */
        uint64_t messages_usec;         /* messages of conversations; 0: for ever */
} Retention;
/* Drops what is too old; returns how many rows went. */
int retention_sweep(Database *db, const Retention *retention, uint64_t now_usec);

/* Begins the names of values that tell of a CLI's side of a conversation; they go with the conversation's messages. */
#define CONVERSATION_CLI_PREFIX "cli-conversation/"

/* … and those that tell what all of its turns together have used. */
#define CONVERSATION_USAGE_PREFIX "cli-usage/"

/* Small values of the session itself (its working directory, …). 1 = found, 0 = none. value NULL: forget it. */
int session_value_get(Database *db, const char *name, char **ret);
int session_value_set(Database *db, const char *name, const char *value);
/* The values whose names begin so, at most max: the rest of the name, then the value, one after the other. */
int session_value_list(Database *db, const char *prefix, unsigned max, char ***ret);
