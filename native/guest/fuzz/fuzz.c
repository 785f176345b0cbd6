/*
 * Fuzzes what reads bytes that others made: frame headers, requests, passwd and group files.
 * With clang this is a libFuzzer target; otherwise `fuzz SECONDS [SEED]` mutates small seeds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../guest.h"

#define INPUT_BYTES_MAX 4096

struct guest guest;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static size_t parsed_count, refused_count, user_count;

static void try_request(const uint8_t *data, size_t size) {
    struct request request;
    uint8_t *payload = malloc(size + 1);
    if (!payload) return;
    memcpy(payload, data + 1, size - 1);
    const char *wrong = request_parse(&request, data[0], payload, (uint32_t)size - 1);
    if (wrong) refused_count++;
    else {
        parsed_count++;
        for (unsigned tag = 1; tag < TAG_REQUEST_COUNT; tag++) {
            const struct span *field = &request.field[tag];
            if (!field->data || !request_has(&request, (enum tag)tag)) continue;
            check(field->data >= (char *)payload, "a field starts before the payload");
            check(field->data + field->length <= (char *)payload + size - 1, "a field ends after it");
        }
        for (size_t i = 0; i < request.argc && request.argv; i++) check(request.argv[i], "argv hole");
        for (size_t i = 0; i < request.envc && request.envp; i++)
            check(strchr(request.envp[i], '=') != NULL, "an environment entry without =");
    }
    request_free(&request);
    free(payload);
}

static void try_users(const uint8_t *data, size_t size) {
    char *text = calloc(1, size + 1), *other = calloc(1, size + 1);
    struct user user;
    if (text && other) {
        memcpy(text, data, size);
        memcpy(other, data, size);
        const char *specs[] = {"user", "1000", "user:staff", "0:0", ":", "4294967295", "-1", "a:b:c"};
        if (user_parse(specs[data[0] % 8], text, other, &user)) {
            user_count++;
            check(user.group_count <= SUPPLEMENTARY_GROUPS_MAX, "too many groups");
            check(memchr(user.home, 0, sizeof user.home) && user.home[0] == '/', "home");
            check(memchr(user.name, 0, sizeof user.name) != NULL, "name");
        }
    }
    free(text);
    free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > INPUT_BYTES_MAX) return 0;
    uint32_t length;
    if (size >= FRAME_HEADER_BYTES && frame_header_parse(data, REQUEST_BYTES_MAX, &length))
        check(length <= REQUEST_BYTES_MAX, "a frame longer than allowed");
    try_request(data, size);
    try_users(data, size);
    return 0;
}

#ifndef LIBFUZZER
static uint64_t state;

static uint32_t random_number(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static const char passwd_seed[] = "aroot:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/bash\n"
                                  "staff:x:50:user,root,user\n1000:x:7:7::/:\n:::::::\nx:y\n";

/* A request with a random type and fields, mostly of the right size for their tags. */
static size_t make_request(uint8_t *data) {
    size_t at = 0;
    data[at++] = (uint8_t)random_number(40);
    for (uint32_t count = random_number(9); count > 0 && at + 300 < INPUT_BYTES_MAX; count--) {
        uint32_t tag = random_number(30), kind = random_number(8);
        uint32_t length = kind < 3 ? 4 : kind < 4 ? 8 : random_number(200);
        set_u32(data + at, length << 8 | tag);
        for (uint32_t i = 0; i < length; i++)
            data[at + 4 + i] = kind == 7 ? (uint8_t)random_number(256)
                                         : (uint8_t)"=/ab:.\n0"[random_number(8)];
        at += 4 + length;
    }
    return at;
}

static size_t mutate(uint8_t *data, size_t size) {
    for (uint32_t count = random_number(4); count > 0 && size > 1; count--) {
        uint32_t at = random_number((uint32_t)size);
        switch (random_number(4)) {
        case 0: data[at] ^= (uint8_t)(1u << random_number(8)); break;
        case 1: data[at] = (uint8_t)random_number(256); break;
        case 2: size = at + 1; break;
        default:
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
        }
    }
    return size;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    state = (argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL)) | 1;
    printf("fuzz: seed %llu\n", (unsigned long long)state);
    static uint8_t data[INPUT_BYTES_MAX];
    unsigned long long runs = 0;
    for (time_t end = time(NULL) + (time_t)seconds; time(NULL) < end; runs += 1000)
        for (int i = 0; i < 1000; i++) {
            size_t size;
            if (random_number(4) == 0) memcpy(data, passwd_seed, size = sizeof passwd_seed - 1);
            else size = make_request(data);
            LLVMFuzzerTestOneInput(data, mutate(data, size));
        }
    printf("fuzz: %llu runs, %zu requests parsed, %zu refused, %zu users found\n", runs, parsed_count,
           refused_count, user_count);
    return 0;
}
#endif
