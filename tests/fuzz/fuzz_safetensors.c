/* Tensor files: one that opens is covered by its tensors exactly, and each is found by its name. */
#include "store/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const struct safetensors *f, size_t n)
{
    size_t sum = safetensors_header(f).n;
    volatile uint8_t byte;

    for (uint32_t i = 0; i < safetensors_n(f); i++) {
        const struct st_tensor *t = safetensors_nth(f, i);
        if (safetensors_find(f, t->name) != t) abort();
        if (t->data.n) byte = t->data.p[0], byte = t->data.p[t->data.n - 1];
        sum += t->data.n;
    }
    (void)byte;
    if (sum != n) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct safetensors *f;
    struct why why = { "" };
    char path[32];
    int fd = memfd_create("fuzz", 0);

    if (fd < 0 || write(fd, data, n) != (ssize_t)n) exit(2);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (safetensors_open(&f, path, &why) == ERR_OK) {
        check(f, n);
        safetensors_close(f);
    } else if (!why.text[0]) {
        abort();
    }
    close(fd);
    return 0;
}
