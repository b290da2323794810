/* SPDX-License-Identifier: MIT */
#pragma once

#include "http-client.h"
#include "usage-meter.h"

/* An HTTP server that stands in for a model provider: it takes our token, puts the provider's key in its place, and
 * passes bodies through as they come, both ways. */
typedef struct ModelEndpoint ModelEndpoint;

typedef struct EndpointSettings {
        ModelProvider provider;
        const char *base_url, *api_key, *ca_file;       /* "": none */
        const char *token;              /* "": nobody gets in */
        const char *fault;              /* why no request can be carried out; NULL: they can */
} EndpointSettings;

typedef struct EndpointSpec {
        sd_event *event;
        HttpClient *http;
        int listen_fd;                  /* taken over, on failure too */
        /* A call of a model is about to be made: model_endpoint_answer() says whether it may be. < 0: it may not. */
        int (*on_ask)(uint64_t id, void *userdata);
        /* A call of a model has ended. status 0: the provider was not reached. */
        void (*on_usage)(unsigned status, const MeteredUsage *u, void *userdata);
        void *userdata;
} EndpointSpec;

int model_endpoint_new(ModelEndpoint **ret, const EndpointSpec *spec);
ModelEndpoint* model_endpoint_free(ModelEndpoint *e);
DEFINE_TRIVIAL_CLEANUP_FUNC(ModelEndpoint*, model_endpoint_free);

/* Copies; requests under way go on as they began. -EINVAL for a key or token that cannot be sent. */
int model_endpoint_configure(ModelEndpoint *e, const EndpointSettings *settings);

/* message NULL: go on. Otherwise the call is refused (429): not before retry_after_seconds. An id that is gone is
 * ignored. */
void model_endpoint_answer(ModelEndpoint *e, uint64_t id, const char *message, uint64_t retry_after_seconds);

unsigned model_endpoint_n_requests(const ModelEndpoint *e);
/* Takes no more of them. */
void model_endpoint_quiesce(ModelEndpoint *e);
