/* SPDX-License-Identifier: MIT */
#pragma once

#include "model.h"

/* The model room behind a table of functions, in a shared object of its own: libcurl and what it needs bring some 30
 * libraries and several MB that an agent which nobody has asked anything yet shall not pay for. */
typedef struct ModelPlugin {
        int (*http_new)(HttpClient **ret, sd_event *event);
        HttpClient* (*http_free)(HttpClient *c);
        int (*call_start)(HttpClient *http, sd_event *event, const ModelCallSpec *spec, ModelCall **ret);
        ModelCall* (*call_free)(ModelCall *c);
        ModelProvider (*provider_from_string)(const char *s);
        const char* (*error_kind_to_string)(ModelErrorKind k);
        bool (*error_is_transient)(ModelErrorKind k);
} ModelPlugin;

#define MODEL_PLUGIN_FILE "puffo-model.so"
#define MODEL_PLUGIN_SYMBOL "puffo_model_plugin"

/* Loads it from the directory that holds our own program; it stays loaded. -ELIBACC with a text in *reterr (malloc'ed). */
int model_plugin_load(const ModelPlugin **ret, char **reterr);
