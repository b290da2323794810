/* SPDX-License-Identifier: MIT */
#pragma once

#include "bus-call.h"
#include "gateway-handlers.h"
#include "responses-request.h"
#include "responses-stream.h"

/* A turn that somebody waits for: the one that POST /v1/responses begins, or one whose events are asked for again. */
struct ResponseTurn {
        Gateway *gateway;
        Call *call;                     /* NULL: an orphan */
        ResponsesRequest request;
        char *id, *agent_path, *document;
        TurnClient *client;
        ResponseFold *fold;
        struct ChatAnswer *chat;        /* told as a chat completion; NULL: as a response */
        BusCall *interrupt;
        sd_event_source *head_timer, *sync_timer, *silence_timer;

        StrBuf out;                     /* of the stream, from out_offset on not handed to the server yet */
        size_t out_offset;
        int64_t after;                  /* events up to this number are not wanted */
        bool mine;                      /* begun by this request */
        bool stream, background;
        bool reopened;                  /* the log is not that of the client's numbers, and it has seen so */
        bool begun;                     /* response.created is out, or the answer is */
        bool finished;                  /* nothing more goes to the client */
        bool interrupting;              /* the agent is to be told, or was … */
        bool interrupted;               /* … and has answered */
        bool orphan;
        LIST_ENTRY(ResponseTurn) orphans;
};
DEFINE_TRIVIAL_CLEANUP_FUNC(ResponseTurn*, response_turn_free);

/* A turn of an agent for a call, with nothing under way yet. */
int response_turn_new(Call *c, const MirroredAgent *a, const char *id, ResponseTurn **ret);
/* The emitter for its fold. */
int response_turn_emit(const char *type, json_object *event, void *userdata);
/* Asks the agent; request, document and fold are there. Answers the call from the event loop. */
int response_turn_start(ResponseTurn *t);
