/* SPDX-License-Identifier: MIT */
#pragma once

#include "model.h"

/* What of a provider's API a CLI may reach through us. Nothing else is passed on: the key opens far more than that
 * (files, batches, fine-tuning, the account). */

typedef enum ModelRouteKind {
        ROUTE_CALL,             /* of a model: counted, and refused without budget */
        ROUTE_FREE,             /* costs nothing */
        ROUTE_HELLO,            /* only asks whether somebody is there: answered by ourselves */
        _ROUTE_KIND_MAX,
        _ROUTE_KIND_INVALID = -EINVAL,
} ModelRouteKind;

/* The form in which an answer tells its usage. */
typedef enum UsageDialect {
        USAGE_ANTHROPIC,
        USAGE_OPENAI_CHAT,
        USAGE_OPENAI_RESPONSES,
        USAGE_GOOGLE,
        _USAGE_DIALECT_MAX,
        _USAGE_DIALECT_INVALID = -EINVAL,
} UsageDialect;

typedef struct ModelRoute {
        ModelRouteKind kind;
        UsageDialect dialect;
        char *path;             /* below the version, with the query: for model_provider_url() */
        char *model;            /* if the path names it, else NULL */
} ModelRoute;
void model_route_done(ModelRoute *r);

/* path and query as they were sent; query NULL: none. -ENOENT: not for us; -EOPNOTSUPP: not with this method; -EINVAL:
 * a query that does not belong there; -ENOMEM. */
int model_route_find(ModelProvider provider, const char *method, const char *path, const char *query, ModelRoute *ret);

/* An error of ours in the form that the provider's clients know. retry_after_seconds 0: says nothing of it. */
int model_error_format(ModelProvider provider, unsigned status, const char *message, uint64_t retry_after_seconds,
                       char **ret, size_t *ret_size);
