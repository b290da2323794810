/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "model.h"
#include "string-util.h"

/* What a session and its puffo-outlet say to each other over a socket, line by line.
 *
 *     session: {"config": {…}}, and then the provider's key and the token, a line each, so that they can be wiped
 *              {"answer": ID} or {"answer": ID, "message": why not, "retry_after": seconds}
 *     outlet:  {"ask": ID}                     a call of a model is about to be made
 *              {"usage": {…}}                  one has ended
 *
 * The descriptors that the outlet listens on are those from OUTLET_FD_FIRST on, in the order of its arguments
 * ("model", "proxy"). */

#define OUTLET_FD_FIRST 3

typedef struct OutletSettings {
        const char *agent;              /* for the journal */
        const char *provider;           /* model_provider_to_string() */
        const char *base_url, *ca_file; /* "": none */
        const char *fault;              /* why there are no calls at present; NULL: there are */
        const char *api_key, *token;
        char *const *allow_hosts;       /* host-pattern.h */
        uint64_t idle_usec;             /* the process ends after so long */
} OutletSettings;
/* Appends it. -EINVAL: a key or token with control characters. */
int outlet_settings_format(StrBuf *b, const OutletSettings *s);
/* message NULL: it may. */
int outlet_answer_format(StrBuf *b, uint64_t id, const char *message, uint64_t retry_after_seconds);

/* A line of the session's. Texts are borrowed from here; key and token are for the reader of lines to fill in. */
typedef struct OutletOrder {
        json_object *object;
        char **allow_hosts;
        bool is_settings;
        OutletSettings settings;
        uint64_t id, retry_after_seconds;
        const char *message;
} OutletOrder;
/* -EBADMSG. */
int outlet_order_parse(OutletOrder *ret, const char *line, size_t size);
void outlet_order_done(OutletOrder *o);

typedef struct OutletReport {
        json_object *object;
        bool is_usage;
        uint64_t id;                    /* of what is asked */
        const char *model;
        unsigned status;
        ModelUsage usage;
        bool estimated;
} OutletReport;
/* Appends a line of the outlet's. -ENOMEM. */
int outlet_ask_format(StrBuf *b, uint64_t id);
int outlet_usage_format(StrBuf *b, const OutletReport *r);
/* Reads one: texts are borrowed from ret, which is to be given to outlet_report_done(). -EBADMSG, -ENOMEM. */
int outlet_report_parse(OutletReport *ret, const char *line, size_t size);
void outlet_report_done(OutletReport *r);
