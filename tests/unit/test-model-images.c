/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "model-images"

#include <sodium.h>
#include <sys/mman.h>

#include "image-type.h"
#include "json-util.h"
#include "model-driver.h"
#include "scripted-server.h"

#define OK \
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" \
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\n" \
        "data: [DONE]\n\n"
#define REFUSED(status, message) \
        "HTTP/1.1 " status " X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" \
        "{\"error\":{\"message\":\"" message "\",\"type\":\"invalid_request_error\"}}"

#define STREAMED(data) \
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: " data "\n\n"

/* Files of given sizes, no two with the same content. */
static int file_new(size_t size, unsigned char seed) {
        int fd = memfd_create("image", MFD_CLOEXEC);
        unsigned char *data = malloc(size + 1);

        ASSERT_OK(fd);
        ASSERT_NOT_NULL(data);
        for (size_t i = 0; i < size; i++)
                data[i] = (unsigned char) (seed + i * i / 7);
        ASSERT_EQ(write(fd, data, size), (ssize_t) size);
        free(data);
        return fd;
}

static char* as_base64(int fd, size_t size) {
        _cleanup_free_ unsigned char *data = malloc(size + 1);
        size_t n = sodium_base64_ENCODED_LEN(size, sodium_base64_VARIANT_ORIGINAL);
        char *text = malloc(n);

        ASSERT_TRUE(data && text);
        ASSERT_EQ(pread(fd, data, size, 0), (ssize_t) size);
        ASSERT_NOT_NULL(sodium_bin2base64(text, n, data, size, sodium_base64_VARIANT_ORIGINAL));
        return text;
}

typedef struct Talk {
        sd_event *event;
        HttpClient *http;
        Server server;
        ModelCall *call;
        bool done;
        ModelResult result;
} Talk;

static void on_done(ModelCall *c, const ModelResult *r, void *userdata) {
        Talk *t = userdata;

        ASSERT_FALSE(t->done);
        t->done = true;
        t->result = *r;
        t->call = model_call_free(t->call);
}

static void talk_begin(Talk *t, const Answer *answers, size_t n) {
        *t = (Talk) {};
        ASSERT_OK(sd_event_new(&t->event));
        ASSERT_OK(http_client_new(&t->http, t->event));
        server_start(&t->server, t->event, answers, n);
}

static void talk_end(Talk *t) {
        t->call = model_call_free(t->call);
        t->http = http_client_free(t->http);
        server_stop(&t->server);
        t->event = sd_event_unref(t->event);
}

static int ask(Talk *t, ModelProvider provider, const ModelMessage *messages, size_t n) {
        _cleanup_free_ char *base = asprintf_new("http://127.0.0.1:%u", t->server.port);

        ASSERT_NOT_NULL(base);
        return model_call_start(t->http, t->event, &(ModelCallSpec) {
                .provider = provider, .base_url = base, .api_key = "k", .model = "m", .messages = messages,
                .n_messages = n, .on_done = on_done, .userdata = t,
        }, &t->call);
}

static void run(Talk *t) {
        while (!t->done)
                if (ASSERT_OK(sd_event_run(t->event, 60 * USEC_PER_SEC)) == 0)
                        fail_msg("Nothing happens any more");
}

static void exchange(Talk *t, ModelProvider provider, const ModelMessage *messages, size_t n, const Answer *answers,
                     size_t n_answers) {
        talk_begin(t, answers, n_answers);
        ASSERT_OK(ask(t, provider, messages, n));
        run(t);
}

static void assert_list(Talk *t, size_t i, const char *key, const char *expected_text) {
        _cleanup_json_ json_object *got = NULL, *expected = NULL;
        const char *body = server_body(&t->server, i);

        ASSERT_OK(json_parse(body, strlen(body), &got));
        ASSERT_OK(json_parse(expected_text, strlen(expected_text), &expected));
        if (!json_object_equal(json_get(got, key), expected))
                fail_msg("Expected %s, got %.3000s", expected_text, body);
}

/* Sizes around what is read and encoded at once. */
TEST(each_dialect) {
        static const size_t sizes[] = { 1, 2, 3, KIB(3) - 1, KIB(3), KIB(3) + 1, 100001 };
        static const struct {
                ModelProvider provider;
                const char *key, *expected;
        } t[] = {
                { MODEL_ANTHROPIC, "messages",
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"base64\","
                  "\"media_type\":\"image/png\",\"data\":\"%s\"}},{\"type\":\"text\",\"text\":\"one\"}]},"
                  "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"two\","
                  "\"cache_control\":{\"type\":\"ephemeral\"}}]},"
                  "{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"base64\","
                  "\"media_type\":\"image/webp\",\"data\":\"%s\"}},"
                  "{\"type\":\"image\",\"source\":{\"type\":\"base64\","
                  "\"media_type\":\"image/jpeg\",\"data\":\"%s\"}},{\"type\":\"text\",\"text\":\"three\"},"
                  "{\"type\":\"text\",\"text\":\"four\"}]}]" },
                { MODEL_OPENAI, "messages",
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
                  "\"data:image/png;base64,%s\"}},{\"type\":\"text\",\"text\":\"one\"}]},"
                  "{\"role\":\"assistant\",\"content\":\"two\"},"
                  "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
                  "\"data:image/webp;base64,%s\"}},{\"type\":\"image_url\",\"image_url\":{\"url\":"
                  "\"data:image/jpeg;base64,%s\"}},{\"type\":\"text\",\"text\":\"three\"},"
                  "{\"type\":\"text\",\"text\":\"four\"}]}]" },
                { MODEL_GOOGLE, "contents",
                  "[{\"role\":\"user\",\"parts\":[{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"%s\"}},"
                  "{\"text\":\"one\"}]},{\"role\":\"model\",\"parts\":[{\"text\":\"two\"}]},"
                  "{\"role\":\"user\",\"parts\":[{\"inlineData\":{\"mimeType\":\"image/webp\",\"data\":\"%s\"}},"
                  "{\"inlineData\":{\"mimeType\":\"image/jpeg\",\"data\":\"%s\"}},{\"text\":\"three\"},"
                  "{\"text\":\"four\"}]}]" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                for (size_t k = 0; k < ELEMENTSOF(sizes); k++) {
                        ModelImage images[] = {
                                { "image/png", sizes[k], file_new(sizes[k], 1) },
                                { "image/webp", sizes[k], file_new(sizes[k], 2) },
                                { "image/jpeg", 5, file_new(5, 3) },
                        };
                        const ModelMessage messages[] = {
                                { MODEL_ROLE_USER, "one", .images = images, .n_images = 1 },
                                { MODEL_ROLE_ASSISTANT, "two" },
                                { MODEL_ROLE_USER, "three", .images = images + 1, .n_images = 2 },
                                { MODEL_ROLE_USER, "four" },
                        };
                        _cleanup_free_ char *a = as_base64(images[0].fd, sizes[k]), *expected = NULL;
                        _cleanup_free_ char *b = as_base64(images[1].fd, sizes[k]), *c = as_base64(images[2].fd, 5);
                        Talk talk;

                        talk_begin(&talk, &(Answer) { .bytes = OK }, 1);
                        ASSERT_OK(ask(&talk, t[i].provider, messages, ELEMENTSOF(messages)));
                        /* They are the call's own by now. */
                        for (size_t n = 0; n < ELEMENTSOF(images); n++)
                                ASSERT_OK(close(images[n].fd));
                        run(&talk);
_Pragma("GCC diagnostic push")
_Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
                        expected = asprintf_new(t[i].expected, a, b, c);
_Pragma("GCC diagnostic pop")
                        assert_list(&talk, 0, t[i].key, expected);
                        talk_end(&talk);
                }
}

/* A message may be nothing but an image. */
TEST(without_a_word) {
        ModelImage image = { "image/gif", 3, file_new(3, 0) };
        _cleanup_free_ char *text = as_base64(image.fd, 3), *expected = NULL;
        Talk t;

        exchange(&t, MODEL_OPENAI, &(ModelMessage) { MODEL_ROLE_USER, "", .images = &image, .n_images = 1 }, 1,
                 &(Answer) { .bytes = OK }, 1);
        expected = asprintf_new("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
                                "\"data:image/gif;base64,%s\"}}]}]", text);
        assert_list(&t, 0, "messages", expected);
        ASSERT_FALSE(t.result.images_refused);
        talk_end(&t);
        ASSERT_OK(close(image.fd));
}

/* The model's own retries send the same once more. */
TEST(again) {
        static const Answer answers[] = { { .bytes = REFUSED("503", "later") }, { .bytes = OK } };
        ModelImage image = { "image/png", KIB(300), file_new(KIB(300), 9) };
        Talk t;

        exchange(&t, MODEL_OPENAI, &(ModelMessage) { MODEL_ROLE_USER, "x", .images = &image, .n_images = 1 }, 1,
                 answers, 2);
        ASSERT_EQ(t.result.error, MODEL_ERROR_NONE);
        ASSERT_TRUE(strlen(server_body(&t.server, 0)) > KIB(400));
        ASSERT_STREQ(server_body(&t.server, 0), server_body(&t.server, 1));
        talk_end(&t);
        ASSERT_OK(close(image.fd));
}

/* A conversation with images in it goes on with a model that takes none. */
TEST(refused) {
        static const struct {
                ModelProvider provider;
                const char *refusal, *key, *expected;
        } t[] = {
                { MODEL_OPENAI, REFUSED("400", "content must be a string"), "messages",
                  "[{\"role\":\"user\",\"content\":\"" IMAGE_DROPPED_TEXT "\\n\\nlook\"},"
                  "{\"role\":\"assistant\",\"content\":\"I do\"},{\"role\":\"user\",\"content\":\"well\"}]" },
                { MODEL_OPENAI, REFUSED("500", "image input is not supported - hint: mmproj"), "messages",
                  "[{\"role\":\"user\",\"content\":\"" IMAGE_DROPPED_TEXT "\\n\\nlook\"},"
                  "{\"role\":\"assistant\",\"content\":\"I do\"},{\"role\":\"user\",\"content\":\"well\"}]" },
                { MODEL_OPENAI, STREAMED("{\"error\":{\"message\":\"no vision here\",\"code\":400}}"), "messages",
                  "[{\"role\":\"user\",\"content\":\"" IMAGE_DROPPED_TEXT "\\n\\nlook\"},"
                  "{\"role\":\"assistant\",\"content\":\"I do\"},{\"role\":\"user\",\"content\":\"well\"}]" },
                { MODEL_ANTHROPIC, REFUSED("400", "Could not process image"), "messages",
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"" IMAGE_DROPPED_TEXT "\"},"
                  "{\"type\":\"text\",\"text\":\"look\"}]},{\"role\":\"assistant\",\"content\":[{\"type\":\"text\","
                  "\"text\":\"I do\",\"cache_control\":{\"type\":\"ephemeral\"}}]},"
                  "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"well\"}]}]" },
                { MODEL_GOOGLE, REFUSED("413", "too much"), "contents",
                  "[{\"role\":\"user\",\"parts\":[{\"text\":\"" IMAGE_DROPPED_TEXT "\"},{\"text\":\"look\"}]},"
                  "{\"role\":\"model\",\"parts\":[{\"text\":\"I do\"}]},"
                  "{\"role\":\"user\",\"parts\":[{\"text\":\"well\"}]}]" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ModelImage image = { "image/png", 10, file_new(10, 1) };
                const ModelMessage messages[] = {
                        { MODEL_ROLE_USER, "look", .images = &image, .n_images = 1 },
                        { MODEL_ROLE_ASSISTANT, "I do" }, { MODEL_ROLE_USER, "well" },
                };
                const Answer answers[] = { { .bytes = t[i].refusal }, { .bytes = OK } };
                Talk talk;

                exchange(&talk, t[i].provider, messages, ELEMENTSOF(messages), answers, 2);
                assert_list(&talk, 1, t[i].key, t[i].expected);
                ASSERT_TRUE(talk.result.images_refused);
                talk_end(&talk);
                ASSERT_OK(close(image.fd));
        }
}

/* What is no fault of the images is not tried without them. */
TEST(other_errors) {
        static const struct { const char *answer; ModelErrorKind error; } t[] = {
                { REFUSED("401", "no image for you"), MODEL_ERROR_AUTH },
                { REFUSED("403", "bad key"), MODEL_ERROR_AUTH },
                { STREAMED("{\"error\":{\"message\":\"out of breath\",\"code\":503}}"), MODEL_ERROR_OVERLOADED },
                /* It has begun to speak. */
                { STREAMED("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"I\"}}]}\n\n"
                           "data: {\"error\":{\"message\":\"no vision\",\"code\":400}}"),
                  MODEL_ERROR_INVALID_REQUEST },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ModelImage image = { "image/png", 10, file_new(10, 1) };
                Talk talk;

                exchange(&talk, MODEL_OPENAI,
                         &(ModelMessage) { MODEL_ROLE_USER, "x", .images = &image, .n_images = 1 }, 1,
                         &(Answer) { .bytes = t[i].answer }, 1);
                ASSERT_EQ(talk.result.error, t[i].error);
                ASSERT_FALSE(talk.result.images_refused);
                talk_end(&talk);
                ASSERT_OK(close(image.fd));
        }
}

TEST(nonsense) {
        int fd = file_new(10, 1);
        const ModelImage bad[] = {
                { "image/tiff", 10, fd }, { NULL, 10, fd }, { "image/png", 0, fd }, { "image/png", 10, -EBADF },
                { "image/png", MIB(65), fd },
        };
        ModelImage many[MODEL_IMAGES_MAX + 1];
        Talk t;

        talk_begin(&t, NULL, 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ASSERT_EQ(ask(&t, MODEL_OPENAI, &(ModelMessage) { MODEL_ROLE_USER, "x", .images = bad + i,
                                                                  .n_images = 1 }, 1), -EINVAL);
        for (size_t i = 0; i < ELEMENTSOF(many); i++)
                many[i] = (ModelImage) { "image/png", 10, fd };
        ASSERT_EQ(ask(&t, MODEL_OPENAI, &(ModelMessage) { MODEL_ROLE_USER, "x", .images = many,
                                                          .n_images = ELEMENTSOF(many) }, 1), -EINVAL);
        talk_end(&t);
        ASSERT_OK(close(fd));
}

/* A file that has become shorter since is no image any more, and nothing is sent in its place. */
TEST(cut_short) {
        static const Answer answers[3] = {};
        ModelImage image = { "image/png", 100, file_new(10, 1) };
        Talk t;

        exchange(&t, MODEL_OPENAI, &(ModelMessage) { MODEL_ROLE_USER, "x", .images = &image, .n_images = 1 }, 1,
                 answers, 3);
        ASSERT_EQ(t.result.error, MODEL_ERROR_CUT);
        talk_end(&t);
        ASSERT_OK(close(image.fd));
}

TEST(types) {
        static const struct { const char *head; size_t size; const char *type; } t[] = {
                { "\x89PNG\r\n\x1a\n....", 12, "image/png" }, { "\x89PNG\r\n\x1a", 7, NULL },
                { "\xff\xd8\xff\xe0", 4, "image/jpeg" }, { "\xff\xd8", 2, NULL },
                { "GIF89a", 6, "image/gif" }, { "GIF87a..", 8, "image/gif" }, { "GIF88a", 6, NULL },
                { "RIFF1234WEBPVP8 ", 16, "image/webp" }, { "RIFF1234WAVE", 12, NULL }, { "RIFF1234WEB", 11, NULL },
                { "<svg", 4, NULL }, { "", 0, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_STREQ(strempty(image_type_of(t[i].head, t[i].size)), strempty(t[i].type));
}

TEST_MAIN();
