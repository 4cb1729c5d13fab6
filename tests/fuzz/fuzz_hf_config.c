/* Configurations: config.json, and after a line "---" generation_config.json.  What is read has
 * finite numbers and as many frequencies as it says. */
#include "store/hf_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char dir[32] = "/tmp/fuzz_hf_config-XXXXXX";
static const char *const FILES[] = { "config.json", "generation_config.json" };

static void remove_files(void)
{
    char path[80];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, FILES[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void put(const char *name, const uint8_t *p, size_t n)
{
    char path[80];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) exit(2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct hf_config c;
    static bool ready;
    struct why why = { "" };

    if (!ready) {
        if (!mkdtemp(dir)) exit(2);
        ready = !atexit(remove_files);
    }
    const uint8_t *cut = memmem(data, n, "\n---\n", 5);
    size_t first = cut ? (size_t)(cut - data) : n;
    put(FILES[0], data, first);
    put(FILES[1], cut ? cut + 5 : (const uint8_t *)"{}", cut ? n - first - 5 : 2);
    if (hf_config_read(&c, dir, &why)) {
        if (!why.text[0]) abort();
        return 0;
    }
    if (c.arch.rope_half > ARCH_ROPE_MAX || c.n_eos > MANIFEST_EOS_MAX) abort();
    for (uint32_t i = 0; i < c.arch.rope_half; i++)
        if (!isfinite(c.arch.rope_freq[i])) abort();
    if (!isfinite(c.arch.eps) || !isfinite(c.sampling.temperature)) abort();
    return 0;
}
