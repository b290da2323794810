/* SPDX-License-Identifier: MIT */
#pragma once

#include "directory.h"

/* Asks the model, once for each channel and for ever, to introduce itself there (message-pipeline §13.6). */
typedef struct Introduction Introduction;

/* Ids of these requests begin so, see status-reporter.h. */
typedef struct IntroductionRequest {
        const char *envelope_id;        /* "intro-prompt-<channel id>-<now ms>" */
        const char *channel_id, *channel_name, *space_id, *space_name;  /* names "" when not known */
        const char *text;
        int64_t now_ms;
} IntroductionRequest;

typedef struct IntroductionSpec {
        sd_event *event;
        Database *db;
        Directory *directory;
        /* Puts the request into the queue, within the transaction that says that it was. < 0 takes both back, and the
         * next occasion asks for it again. Called from the loop; must not free the introduction. */
        int (*on_introduce)(const IntroductionRequest *request, void *userdata);
        /* The database is damaged. May be NULL. */
        void (*on_broken)(int error, void *userdata);
        void *userdata;
} IntroductionSpec;

/* What spec names is borrowed. */
int introduction_new(Introduction **ret, const IntroductionSpec *spec);
Introduction* introduction_free(Introduction *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(Introduction*, introduction_free);

/* Takes up what an earlier process has left. */
void introduction_start(Introduction *i);

/* The agent has come into this channel. 0 = it will be asked to introduce itself when the names are known, or it is
 * about to already; > 0 = it was before. -EAGAIN when too many are under way. */
int introduction_prompt(Introduction *i, const char *space_id, const char *channel_id);

/* A signed event of the stream. > 0: it takes the agent, whose slug that is, out of a space or channel, whose names
 * are asked for anew then. Which space a channel is in stays known: there is history to read. */
int introduction_on_event(Introduction *i, const char *own_slug, const SignedValue *event);
