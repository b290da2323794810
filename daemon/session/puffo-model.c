/* SPDX-License-Identifier: MIT */

#include "http-client.h"
#include "model-plugin.h"

extern const ModelPlugin puffo_model_plugin;

_public_ const ModelPlugin puffo_model_plugin = {
        .http_new = http_client_new,
        .http_free = http_client_free,
        .call_start = model_call_start,
        .call_free = model_call_free,
        .provider_from_string = model_provider_from_string,
        .error_kind_to_string = model_error_kind_to_string,
        .error_is_transient = model_error_is_transient,
};
