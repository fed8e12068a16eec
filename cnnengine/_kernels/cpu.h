/* What the CPU and the operating system offer; safe on every CPU of the architecture. */
#ifndef CNNENGINE_CPU_H
#define CNNENGINE_CPU_H
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
/* a bit of leaf 7, for what compilers of today have no name for */
static int cpu_bit(unsigned subleaf, char name, int bit)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || subleaf > a || !__get_cpuid_count(7, subleaf, &a, &b, &c, &d))
        return 0;
    return (name == 'a' ? a : name == 'b' ? b : name == 'c' ? c : d) >> bit & 1;
}
/* conversions of float16, older than AVX2; a virtual machine may hide them all the same */
static int cpu_has_f16c(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/types.h>
#include <sys/sysctl.h>
#endif

static int cpu_has(const char *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(isa, "sse2") || !strcmp(isa, "sse2dot"))
        return 1;
    if (!strcmp(isa, "avx2") || !strcmp(isa, "avx2dot"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpu_has_f16c();
    if (!strcmp(isa, "avxvnni"))
        return cpu_has("avx2") && cpu_bit(1, 'a', 4);
    if (!strcmp(isa, "avx512vnni"))
        return cpu_has("avx512") && __builtin_cpu_supports("avx512vnni");
    if (!strcmp(isa, "avx512bf16"))
        return cpu_has("avx512vnni") && cpu_bit(1, 'a', 5);
    if (!strcmp(isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    if (!strcmp(isa, "neon"))
        return 1;
#if defined(__linux__)
    if (!strcmp(isa, "neondot")) /* HWCAP_ASIMDDP */
        return (getauxval(AT_HWCAP) & (1ul << 20)) != 0;
    if (!strcmp(isa, "neonbf16")) /* HWCAP2_BF16 */
        return cpu_has("neondot") && (getauxval(AT_HWCAP2) & (1ul << 14)) != 0;
#elif defined(__APPLE__)
    if (!strcmp(isa, "neondot"))
        return 1;
    if (!strcmp(isa, "neonbf16")) {
        int has = 0;
        size_t size = sizeof has;
        return !sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, NULL, 0) && has;
    }
#endif
#endif
    return 0;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
