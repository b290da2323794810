/* SPDX-License-Identifier: MIT */
#pragma once

#include <curl/curl.h>
#include <sys/queue.h>

#include "http-client.h"
#include "string-util.h"

/* Shared by http-client.c (the multi handle on the loop) and http-request.c (a transfer and what curl asks of it). */

/* Connections are kept for so long after their last use. */
#define IDLE_CLOSE_USEC (60 * USEC_PER_SEC)

LIST_HEAD(HttpRequestList, HttpRequest);

struct HttpClient {
        sd_event *event;
        CURLM *multi;                   /* NULL while nothing is under way or kept alive */
        sd_event_source *timer;         /* curl's */
        sd_event_source *idle_timer;    /* takes the multi handle down */
        struct HttpRequestList running;
        bool initialized;
        bool asked_ca_directory, has_ca_directory;
};

struct HttpRequest {
        HttpClient *client;             /* borrowed; NULL once the exchange is over */
        CURL *easy;
        struct curl_slist *headers;
        char *body;                     /* as sent */
        size_t body_size;
        StrBuf reply;
        size_t head_size, max_body;
        uint64_t idle_timeout_usec, last_byte_usec;
        curl_off_t uploaded;
        sd_event_source *idle_timer;    /* runs from the moment the connection stands */
        HttpFailure refused;            /* why our own callbacks made curl stop */
        bool connected, paused, starved;        /* starved: waits for more to send */
        http_body_t on_body;
        void (*on_rewind)(HttpRequest *q, void *userdata);
        StrBuf sent;                    /* what on_body gave, for a connection that turns out to be dead … */
        size_t sent_offset;
        bool forgotten;                 /* … unless it is too much */
        bool (*check_address)(const struct sockaddr *address, void *userdata);
        bool any_status;
        bool bare;                      /* only the connection is wanted: on_connected, and then it is the caller's */
        void (*on_connected)(HttpRequest *q, void *userdata);
        http_data_t on_data;
        http_done_t on_done;
        void *userdata;
        char error[CURL_ERROR_SIZE];
        LIST_ENTRY(HttpRequest) requests;
};

/* A transfer that has yet to be started. -EINVAL for what the caller got wrong, -ENOMEM, errors of reading ca_file. */
int request_new(HttpRequest **ret, HttpClient *c, const HttpRequestSpec *spec);
/* Takes the request off the loop; nothing of it calls back afterwards. */
void request_unlink(HttpRequest *q);
/* The same, then tells the caller, who may free it. error matters only when it failed. */
void request_finish(HttpRequest *q, HttpFailure failure, const char *error);
