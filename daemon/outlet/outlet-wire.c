/* SPDX-License-Identifier: MIT */

#include "outlet-wire.h"

static int put_count(json_object *o, const char *key, uint64_t v) {
        return json_put_int(o, key, (int64_t) MIN(v, (uint64_t) INT64_MAX));
}

static uint64_t get_count(json_object *o, const char *key) {
        int64_t v = json_get_int(o, key, 0);

        return v < 0 ? 0 : (uint64_t) v;
}

/* ---- to the outlet ---- */

static bool is_line(const char *s) {
        for (; *s; s++)
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        return false;
        return true;
}

static int hosts_to_json(char *const *hosts, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (; hosts && *hosts; hosts++) {
                json_object *s = json_object_new_string(*hosts);

                if (!s || json_object_array_add(list, s) < 0) {
                        (void) json_object_put(s);
                        return -ENOMEM;
                }
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int outlet_settings_format(StrBuf *b, const OutletSettings *s) {
        _cleanup_json_ json_object *line = json_object_new_object(), *o = json_object_new_object(), *hosts = NULL;
        const struct { const char *key, *value; } texts[] = {
                { "agent", s->agent }, { "provider", s->provider }, { "base_url", s->base_url },
                { "ca_file", s->ca_file }, { "fault", s->fault },
        };
        int r = 0;

        if (!is_line(s->api_key) || !is_line(s->token))
                return -EINVAL;
        if (!line || !o)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = json_put_string(o, texts[i].key, texts[i].value);
        if (r >= 0)
                r = put_count(o, "idle_usec", s->idle_usec);
        if (r >= 0)
                r = hosts_to_json(s->allow_hosts, &hosts);
        if (r >= 0)
                r = json_put(o, "allow_hosts", TAKE_PTR(hosts));
        if (r >= 0)
                r = json_put(line, "config", TAKE_PTR(o));
        if (r >= 0)
                r = json_append_line(b, line);
        return r < 0 ? r : strbuf_printf(b, "%s\n%s\n", s->api_key, s->token);
}

int outlet_answer_format(StrBuf *b, uint64_t id, const char *message, uint64_t retry_after_seconds) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? put_count(o, "answer", id) : -ENOMEM;

        if (r >= 0 && message) {
                r = json_put_string(o, "message", message);
                if (r >= 0)
                        r = put_count(o, "retry_after", retry_after_seconds);
        }
        return r < 0 ? r : json_append_line(b, o);
}

void outlet_order_done(OutletOrder *o) {
        (void) json_object_put(o->object);
        strv_free(o->allow_hosts);
        *o = (OutletOrder) {};
}

static int settings_parse(OutletOrder *ret, json_object *o) {
        json_object *hosts = json_get(o, "allow_hosts");

        ret->is_settings = true;
        ret->settings = (OutletSettings) {
                .agent = strempty(json_get_string(o, "agent")), .provider = json_get_string(o, "provider"),
                .base_url = strempty(json_get_string(o, "base_url")),
                .ca_file = strempty(json_get_string(o, "ca_file")),
                .fault = json_get_string(o, "fault"), .api_key = "", .token = "",
                .idle_usec = get_count(o, "idle_usec"),
        };
        if (!ret->settings.provider || !json_object_is_type(hosts, json_type_array))
                return -EBADMSG;
        for (size_t i = 0; i < json_object_array_length(hosts); i++) {
                json_object *s = json_object_array_get_idx(hosts, i);
                int r = json_object_is_type(s, json_type_string)
                                ? strv_extend(&ret->allow_hosts, json_object_get_string(s)) : -EBADMSG;

                if (r < 0)
                        return r;
        }
        ret->settings.allow_hosts = ret->allow_hosts;
        return 0;
}

int outlet_order_parse(OutletOrder *ret, const char *line, size_t size) {
        OutletOrder order = {};
        json_object *o;
        int r;

        r = json_parse(line, size, &order.object);
        if (r < 0)
                return r;
        o = json_get(order.object, "config");
        if (o)
                r = settings_parse(&order, o);
        else {
                order.id = get_count(order.object, "answer");
                order.message = json_get_string(order.object, "message");
                order.retry_after_seconds = get_count(order.object, "retry_after");
                r = order.id > 0 ? 0 : -EBADMSG;
        }
        if (r < 0) {
                outlet_order_done(&order);
                return r;
        }
        *ret = order;
        return 0;
}

/* ---- from the outlet ---- */

int outlet_ask_format(StrBuf *b, uint64_t id) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? put_count(o, "ask", id) : -ENOMEM;

        return r < 0 ? r : json_append_line(b, o);
}

static int usage_to_json(const OutletReport *report, json_object *o) {
        const ModelUsage *u = &report->usage;
        const struct { const char *key; uint64_t value; } counts[] = {
                { "status", report->status }, { "input_tokens", u->input_tokens },
                { "cached_tokens", u->cached_tokens }, { "cache_write_tokens", u->cache_write_tokens },
                { "output_tokens", u->output_tokens }, { "reasoning_tokens", u->reasoning_tokens },
        };
        int r;

        r = json_put_string(o, "model", report->model);
        if (r >= 0)
                r = json_put_bool(o, "estimated", report->estimated);
        for (size_t i = 0; i < ELEMENTSOF(counts) && r >= 0; i++)
                r = put_count(o, counts[i].key, counts[i].value);
        return r;
}

int outlet_usage_format(StrBuf *b, const OutletReport *report) {
        _cleanup_json_ json_object *line = json_object_new_object(), *o = json_object_new_object();
        int r = line && o ? usage_to_json(report, o) : -ENOMEM;

        if (r >= 0)
                r = json_put(line, "usage", TAKE_PTR(o));
        return r < 0 ? r : json_append_line(b, line);
}

void outlet_report_done(OutletReport *r) {
        (void) json_object_put(r->object);
        *r = (OutletReport) {};
}

int outlet_report_parse(OutletReport *ret, const char *line, size_t size) {
        OutletReport report = {};
        json_object *o;
        int r;

        r = json_parse(line, size, &report.object);
        if (r < 0)
                return r;
        o = json_get(report.object, "usage");
        if (o) {
                report.is_usage = true;
                report.model = json_get_string(o, "model");
                report.status = (unsigned) MIN(get_count(o, "status"), (uint64_t) 999);
                report.estimated = json_get_bool(o, "estimated", false);
                report.usage = (ModelUsage) {
                        .input_tokens = get_count(o, "input_tokens"), .cached_tokens = get_count(o, "cached_tokens"),
                        .cache_write_tokens = get_count(o, "cache_write_tokens"),
                        .output_tokens = get_count(o, "output_tokens"),
                        .reasoning_tokens = get_count(o, "reasoning_tokens"),
                };
        } else
                report.id = get_count(report.object, "ask");
        if (o ? !report.model : report.id == 0) {
                outlet_report_done(&report);
                return -EBADMSG;
        }
        *ret = report;
        return 0;
}
