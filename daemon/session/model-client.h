/* SPDX-License-Identifier: MIT */
#pragma once

#include "model.h"

/* Model calls through a process of their own, puffo-model: started with the first call, stopped when there has been
 * none for a while. libcurl and what it needs would make every agent several times as large for good; and what
 * parses a provider's bytes has neither the database nor the keys of the agent in its memory. */
typedef struct ModelClient ModelClient;

/* program: NULL for the one beside our own. Nothing is started yet. SIGCHLD must be blocked. */
int model_client_new(ModelClient **ret, sd_event *event, const char *program);
/* Ends the process, and with it a call that is running, without calling back. */
ModelClient* model_client_free(ModelClient *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ModelClient*, model_client_free);

/* As model_call_start(), one at a time (-EBUSY); result->text is always "". A process that dies ends its call as
 * MODEL_ERROR_CUT. Free the call with model_client_call_free(). */
int model_client_call_start(ModelClient *c, const ModelCallSpec *spec, ModelCall **ret);
ModelCall* model_client_call_free(ModelCall *call);

/* Ends the process when no call is running; the next one starts it again. */
void model_client_rest(ModelClient *c);

/* The functions above as a table, so that a chat can be given others. */
typedef struct ModelBackend {
        int (*client_new)(ModelClient **ret, sd_event *event, const char *program);
        ModelClient* (*client_free)(ModelClient *c);
        int (*call_start)(ModelClient *c, const ModelCallSpec *spec, ModelCall **ret);
        ModelCall* (*call_free)(ModelCall *call);
        void (*rest)(ModelClient *c);
} ModelBackend;
extern const ModelBackend model_client_backend;
