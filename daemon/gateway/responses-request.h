/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>

#include "api-error.h"
#include "responses-files.h"

/* Schemas of tools and answers have two levels for each of their own. What is stored of a request has some more. */
#define REQUEST_DEPTH_MAX 100U

/* A checked body of POST /v1/responses (responses-api §3). */
typedef struct ResponsesRequest {
        char *model;
        bool stream, background, store;
        char *previous_response_id;     /* NULL: none */
        char *conversation;             /* NULL: the main one */

        /* What the agent is given (responses-api §9.2). */
        char *text, *instructions, *history;    /* the latter two NULL when there are none */
        RequestFiles files;             /* without any, text is not empty */

        json_object *items;             /* input items as they are stored and listed: all with an id */
        json_object *response;          /* the response object; id and created_at are still null */
} ResponsesRequest;

typedef struct RequestPolicy {
        bool strict_tools;
} RequestPolicy;

void responses_request_done(ResponsesRequest *q);
/* -EBADMSG with *reterr, -ENOMEM. */
int responses_request_parse(const char *body, size_t size, const RequestPolicy *policy, ResponsesRequest *ret,
                            ApiError *reterr);
