/* A main for fuzz targets built without libFuzzer.
 *
 *     fuzz_codec [-m N] FILE-OR-FOLDER...
 *
 * Runs the target on each file, then on N mutations of it, the same ones in every run.  A finding
 * ends the program as it would under libFuzzer: by abort or a sanitizer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX = 1 << 20 };

static unsigned mutations, n_files;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* On a block of exactly n bytes, so that a sanitizer sees one read too far. */
static void run(const uint8_t *data, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);

    if (!exact) exit(2);
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

/* A few bytes changed, taken out or put in; data has room for 8 more than INPUT_MAX. */
static size_t mutate(uint8_t *data, size_t n, uint64_t *seed)
{
    for (unsigned edits = 1 + (unsigned)(next_random(seed) % 4); edits > 0; edits--) {
        uint64_t x = next_random(seed);
        size_t at = n ? (size_t)(x >> 32) % n : 0;
        switch (n ? x % 5 : 3) {
        case 0: data[at] ^= (uint8_t)(1 << (x >> 8) % 8); break;
        case 1: data[at] = (uint8_t)(x >> 8); break;
        case 2:
            memmove(data + at, data + at + 1, n - at - 1);
            n--;
            break;
        case 3:
            memmove(data + at + 1, data + at, n - at);
            data[at] = (uint8_t)(x >> 8);
            n++;
            break;
        case 4: n = at; break;
        }
    }
    return n;
}

static void replay_file(const char *path)
{
    static uint8_t whole[INPUT_MAX], changed[INPUT_MAX + 8];
    FILE *f = fopen(path, "rb");
    uint64_t seed = 1;

    if (!f) {
        perror(path);
        exit(2);
    }
    size_t n = fread(whole, 1, sizeof whole, f);
    fclose(f);
    fprintf(stderr, "%s (%zu bytes)\n", path, n); /* the last line names what crashed */
    n_files++;
    run(whole, n);
    for (unsigned i = 0; i < mutations; i++) {
        memcpy(changed, whole, n);
        run(changed, mutate(changed, n, &seed));
    }
}

static void replay(const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    char sub[4096];

    if (n < 0) { /* no folder */
        replay_file(path);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            snprintf(sub, sizeof sub, "%s/%s", path, names[i]->d_name);
            replay(sub);
        }
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    int i = 1;

    if (argc > 2 && !strcmp(argv[1], "-m")) {
        mutations = (unsigned)strtoul(argv[2], NULL, 10);
        i = 3;
    }
    for (; i < argc; i++) replay(argv[i]);
    fprintf(stderr, "%u files, %u mutations of each\n", n_files, mutations);
    return n_files > 0 ? 0 : 2;
}
