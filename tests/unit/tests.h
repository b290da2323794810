/* SPDX-License-Identifier: MIT */
#pragma once

/* One page over cmocka: TEST(name) { … } registers itself, TEST_MAIN() runs them all. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "macro.h"

#define TEST(name) \
        static void test_##name(void **state); \
        static const struct CMUnitTest unit_test_##name \
                __attribute__((used, section("unit_tests"), aligned(sizeof(void*)))) = { #name, test_##name, NULL, NULL, NULL }; \
        static void test_##name(_unused_ void **state)

extern const struct CMUnitTest __start_unit_tests[], __stop_unit_tests[];

#define TEST_MAIN() \
        int main(void) { \
                return _cmocka_run_group_tests(TEST_SUITE, __start_unit_tests, \
                                               (size_t) (__stop_unit_tests - __start_unit_tests), NULL, NULL); \
        } \
        struct _cleanup_semicolon_

#define ASSERT_OK(expr) ({ \
        int _r = (expr); \
        if (_r < 0) \
                fail_msg("%s: %s", #expr, strerror(-_r)); \
        _r; })
#define ASSERT_ERROR(expr, error) assert_int_equal((expr), -(error))
#define ASSERT_EQ(a, b) assert_int_equal((a), (b))
#define ASSERT_TRUE(x) assert_true(x)
#define ASSERT_FALSE(x) assert_false(x)
#define ASSERT_STREQ(a, b) assert_string_equal((a), (b))
#define ASSERT_NULL(x) assert_null(x)
#define ASSERT_NOT_NULL(x) assert_non_null(x)
