/* Feeds the plan parser with mutated plans. Alone it draws its own (argument: how many); with
 * -fsanitize=fuzzer and -DLIBFUZZER the entry point below serves libFuzzer. */
#include "warden.h"

struct warden warden = {.root_count = 4, .privileged = true};

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint32_t draw(uint32_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % bound;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct plan plan;
    static const uint32_t ops[] = {OP_CREATE, OP_CHECK, OP_DIAL, OP_VOLUME_CREATE, OP_HELLO, OP_LIST};
    uint32_t op = ops[size % (sizeof ops / sizeof *ops)];
    if (plan_parse(&plan, op, data, size) != 0)
        return 0;
    /* What was accepted is read through, so that a string or a block out of bounds is noticed. */
    size_t sum = 0;
    for (unsigned i = 0; i < plan.record_count; i++) {
        for (unsigned s = 0; s < 3; s++)
            sum += plan.records[i].s[s] ? strlen(plan.records[i].s[s]) : 0;
        for (size_t at = 0; at < plan.records[i].byte_count; at++)
            sum += plan.records[i].bytes[at];
    }
    return sum == SIZE_MAX ? 1 : 0;
}

#ifndef LIBFUZZER
static uint8_t *record_put(uint8_t *at, uint16_t tag, const void *value, uint16_t length)
{
    memcpy(at, &tag, 2);
    memcpy(at + 2, &length, 2);
    memcpy(at + 4, value, length);
    return at + 4 + length;
}

static size_t plan_make(uint8_t *plan)
{
    static const uint32_t map[] = {0x40000000, 0x40000000, 65536}, root[] = {1, 2}, zero[2] = {0};
    uint64_t caps = 0x800405fb, filter = 0x7fff000000000006;
    uint8_t *at = record_put(plan, T_ID, "abcdefghijklmnopqrst", 21);
    at = record_put(at, T_GUEST, "/guest", 7);
    at = record_put(at, T_USERNS, map, sizeof map);
    at = record_put(at, T_CGROUP, root, sizeof root);
    at = record_put(at, T_CGFILE, "\1\0\0\0\0\0\0\0pids.max\0" "64", 20);
    at = record_put(at, T_LAYER, "\1\0\0\0/layer", 11);
    at = record_put(at, T_OVERLAY, zero, 4);
    at = record_put(at, T_BIND, "\1\0\0\0/usr\0/usr", 14);
    at = record_put(at, T_SYSCTL, "net/x\0" "1", 8);
    at = record_put(at, T_PIVOT, "", 0);
    at = record_put(at, T_ENTER, "", 0);
    at = record_put(at, T_CAPS, &caps, 8);
    at = record_put(at, T_NO_NEW_PRIVS, "", 0);
    uint8_t program[12] = {0};
    memcpy(program + 4, &filter, 8);
    at = record_put(at, T_SECCOMP, program, sizeof program);
    return (size_t)(at - plan);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000, accepted = 0;
    uint8_t original[1024];
    size_t length = plan_make(original);
    for (unsigned long round = 0; round < rounds; round++) {
        size_t size = draw(4) ? length : draw((uint32_t)length + 1);
        uint8_t *copy = malloc(size ? size : 1); /* of its exact size, so that one byte past the end is seen */
        if (!copy)
            return 1;
        memcpy(copy, original, size);
        for (uint32_t flips = draw(4); flips && size; flips--)
            copy[draw((uint32_t)size)] = draw(3) ? (uint8_t)draw(256) : (uint8_t)(draw(2) * 255);
        static struct plan plan;
        accepted += plan_parse(&plan, OP_CHECK, copy, size) == 0;
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
    printf("parsed %lu plans, %lu accepted\n", rounds, accepted);
    return accepted ? 0 : 1;
}
#endif
