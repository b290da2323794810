/* SPDX-License-Identifier: MIT */

#include "home-fixture.h"
#include "pairing.h"

#define KEYS "\"root_public_key\":\"r\",\"device_signing_public_key\":\"d\",\"identity_cert\":{},\"device_cert\":{}"

TEST(load) {
        static const struct {
                const char *text, *problem;     /* problem NULL: paired */
        } t[] = {
                { "{\"slug\":\"alice-3d3d\",\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":1700000000123}", NULL },
                /* Nobody checks the types of what only the bridge uses. */
                { "{\"slug\":\"alice-3d3d\",\"device_id\":\"dev_1\",\"root_public_key\":null,"
                  "\"device_signing_public_key\":5,\"identity_cert\":[],\"device_cert\":\"\","
                  "\"paired_at\":1700000000123,\"more\":1}", NULL },
                { "{\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":1}", "'slug' is missing" },
                { "{\"slug\":\"a\"," KEYS ",\"paired_at\":1}", "'device_id' is missing" },
                { "{\"slug\":\"a\",\"device_id\":\"d\",\"paired_at\":1}", "'root_public_key' is missing" },
                { "{\"slug\":\"a\",\"device_id\":\"d\"," KEYS "}", "'paired_at' is missing" },
                { "{\"slug\":\"a\",\"device_id\":\"d\"," KEYS ",\"paired_at\":\"now\"}", "'paired_at' is no number" },
                { "{\"slug\":\"a\",\"device_id\":\"d\"," KEYS ",\"paired_at\":null}", "'paired_at' is no number" },
                { "{\"slug\":\"a\",\"device_id\":\"d\"," KEYS ",\"paired_at\":-1}", "'paired_at' is no number" },
                { "{\"slug\":5,\"device_id\":\"d\"," KEYS ",\"paired_at\":1}", "'slug' or 'device_id' is no text" },
                { "[]", "no JSON object" }, { "null", "no JSON object" }, { "{", "no JSON" }, { "", "no JSON" },
        };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(pairing_done) Pairing p = {};
                _cleanup_free_ char *problem = NULL;

                put_file(f.paths->home, "pairing.json", t[i].text);
                ASSERT_EQ(ASSERT_OK(pairing_load(f.paths->pairing_json, &p, &problem)), !t[i].problem);
                if (t[i].problem) {
                        ASSERT_NULL(p.slug);
                        if (!problem || !strstr(problem, t[i].problem))
                                fail_msg("'%s' gives '%s'", t[i].text, problem);
                        continue;
                }
                ASSERT_NULL(problem);
                ASSERT_STREQ(p.slug, "alice-3d3d");
                ASSERT_STREQ(p.device_id, "dev_1");
                ASSERT_EQ(p.paired_at_usec, 1700000000123000);
        }
}

TEST(none) {
        FIXTURE(f);
        _cleanup_free_ char *problem = NULL;
        Pairing p = {};

        ASSERT_EQ(pairing_load(f.paths->pairing_json, &p, &problem), 0);
        ASSERT_NULL(problem);
        ASSERT_OK(directory_make(f.paths->pairing_json, 0700));
        ASSERT_EQ(pairing_load(f.paths->pairing_json, &p, &problem), 0);
        ASSERT_NOT_NULL(problem);
}

TEST(release) {
        FIXTURE(f);

        ASSERT_EQ(pairing_release(f.paths->pairing_json), 0);
        put_file(f.paths->home, "pairing.json", "{}");
        ASSERT_EQ(pairing_release(f.paths->pairing_json), 1);
        ASSERT_FALSE(is_there(f.paths->home, "pairing.json"));
}

#define TEST_SUITE "pairing"
TEST_MAIN();
