/* SPDX-License-Identifier: MIT */
#pragma once

#include "model-route.h"

/* Reads from a provider's answer, while it passes by, what it used: bytes are looked at behind the back of those who
 * move them, and whatever is wrong with them is no error here. */
typedef struct UsageMeter UsageMeter;

typedef struct MeteredUsage {
        char *model;            /* as the provider calls it; "" when it did not say */
        ModelUsage usage;
        bool estimated;         /* the counts are not the provider's, or not its last */
} MeteredUsage;
void metered_usage_done(MeteredUsage *u);

/* content_type: of the answer (NULL: none). model: as it was asked for, if known. request_size: of the body. */
int usage_meter_new(UsageMeter **ret, UsageDialect dialect, const char *content_type, const char *model,
                    size_t request_size);
UsageMeter* usage_meter_free(UsageMeter *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(UsageMeter*, usage_meter_free);

/* The next bytes of the answer, split anywhere. */
void usage_meter_feed(UsageMeter *m, const char *data, size_t size);
/* complete: the answer has ended as it should. What it lacks of counts is estimated from sizes: nobody gets around the
 * budget by not asking for them, or by hanging up. -ENOMEM. */
int usage_meter_finish(UsageMeter *m, bool complete, MeteredUsage *ret);
