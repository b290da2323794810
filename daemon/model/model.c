/* SPDX-License-Identifier: MIT */

#include "model-driver.h"

static const ModelDriver *const drivers[_MODEL_PROVIDER_MAX] = {
        [MODEL_ANTHROPIC] = &anthropic_driver,
        [MODEL_OPENAI] = &openai_driver,
        [MODEL_GOOGLE] = &google_driver,
        [MODEL_ECHO] = &echo_driver,
};

const ModelDriver* model_driver_get(ModelProvider p) {
        if (p < 0 || p >= _MODEL_PROVIDER_MAX)
                return NULL;
        return drivers[p];
}

const char* model_provider_default_model(ModelProvider p) {
        const ModelDriver *d = model_driver_get(p);

        return d ? d->default_model : NULL;
}

const char* model_provider_base_url_from_environment(ModelProvider p) {
        const ModelDriver *d = model_driver_get(p);
        const char *e = d && d->base_url_variable ? secure_getenv(d->base_url_variable) : NULL;

        return isempty(e) ? NULL : e;
}

const char* model_provider_key_header(ModelProvider p) {
        const ModelDriver *d = model_driver_get(p);

        return d ? d->key_header : NULL;
}

int model_provider_url(ModelProvider p, const char *base, const char *path, char **ret) {
        const ModelDriver *d = model_driver_get(p);

        if (!d || !d->locate)
                return -EINVAL;
        if (isempty(base))
                base = model_provider_base_url_from_environment(p) ?: d->default_base_url;
        if (base[strcspn(base, "?#")])
                return -EINVAL;
        return d->locate(base, path, ret);
}

uint64_t model_count(json_object *usage, const char *key, uint64_t fallback) {
        int64_t n = json_get_int(usage, key, -1);

        return n < 0 ? fallback : (uint64_t) n;
}

int model_array_add(json_object *array, json_object *value) {
        _cleanup_json_ json_object *v = value;

        if (!v || json_object_array_add(array, v) < 0)
                return -ENOMEM;
        (void) TAKE_PTR(v);
        return 0;
}

int model_object_add(json_object *o, const char *key, json_object *value) {
        return value ? json_put(o, key, value) : -ENOMEM;
}

json_object* model_text_part_new(const char *type, const char *text) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return NULL;
        if (type && json_put_string(o, "type", type) < 0)
                return NULL;
        if (json_put_string(o, "text", text) < 0)
                return NULL;
        return TAKE_PTR(o);
}

int model_parts_drop_images(json_object *parts, const char *type, const char *key) {
        size_t n = json_object_is_type(parts, json_type_array) ? json_object_array_length(parts) : 0;

        for (size_t i = 0; i < n; i++) {
                json_object *text;

                if (!json_get(json_object_array_get_idx(parts, i), key))
                        continue;
                text = model_text_part_new(type, IMAGE_DROPPED_TEXT);
                if (!text)
                        return -ENOMEM;
                if (json_object_array_put_idx(parts, i, text) < 0) {
                        (void) json_object_put(text);
                        return -ENOMEM;
                }
        }
        return 0;
}

int model_drop_images(json_object *messages, const char *name, const char *type, const char *key) {
        int r = 0;

        for (size_t i = 0; i < json_object_array_length(messages) && r >= 0; i++)
                r = model_parts_drop_images(json_get(json_object_array_get_idx(messages, i), name), type, key);
        return r;
}

int model_url_with_version(const char *base, const char *version, const char *path, char **ret) {
        _cleanup_free_ char *trimmed = strdup(base), *full = NULL;
        const char *last;
        size_t n;

        if (!trimmed)
                return -ENOMEM;
        for (n = strlen(trimmed); n > 0 && trimmed[n - 1] == '/'; n--)
                trimmed[n - 1] = 0;

        /* "/v1", "/v1beta", …: the user took over the version from some manual. */
        last = strrchr(trimmed, '/');
        if (last && last[1] == 'v' && last[2] >= '0' && last[2] <= '9')
                full = strdup(path);
        else
                full = strjoin(version, path);
        if (!full)
                return -ENOMEM;

        *ret = http_url_join(trimmed, full);
        return *ret ? 0 : -ENOMEM;
}
