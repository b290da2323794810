/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "agent-config.h"

/* The a{sv} arguments of the bus interface: read by a table, unknown names and wrong types refused by name. */

typedef struct RuntimeOption {
        const char *name;
        char type;              /* 's', 'b', 'u', 't' or 'a' for "as" */
} RuntimeOption;

typedef struct RuntimeOptionValue {
        const char *name;       /* the table's */
        const char *string;     /* borrowed from the message */
        uint64_t number;        /* also of booleans */
        char **strings;         /* owned */
} RuntimeOptionValue;

#define OPTIONS_MAX 24

typedef struct RuntimeOptions {
        RuntimeOptionValue values[OPTIONS_MAX];
        size_t n;
} RuntimeOptions;

void runtime_options_done(RuntimeOptions *o);

/* Names of either table (more may be NULL). A name given twice is refused too. */
int options_read(sd_bus_message *message, const RuntimeOption *table, const RuntimeOption *more, RuntimeOptions *ret,
                 sd_bus_error *reterr_error);
/* The options of SetRuntime, and more. */
int runtime_options_read(sd_bus_message *message, const RuntimeOption *more, RuntimeOptions *ret,
                         sd_bus_error *reterr_error);
/* Puts those of SetRuntime into a configuration; the caller checks the whole with agent_config_check(). */
int runtime_options_apply(const RuntimeOptions *o, AgentConfig *c, sd_bus_error *reterr_error);

const char* runtime_options_string(const RuntimeOptions *o, const char *name);  /* NULL: not given */
/* fallback: when it was not given. */
bool runtime_options_bool(const RuntimeOptions *o, const char *name, bool fallback);
uint64_t runtime_options_number(const RuntimeOptions *o, const char *name, uint64_t fallback);
