/* noise_vectors.h - run a file of Noise vectors (cacophony, snow and noise-c's JSON forms). */
#ifndef TESTS_PROTO_NOISE_VECTORS_H
#define TESTS_PROTO_NOISE_VECTORS_H

struct noise_count {
    unsigned ran, failed; /* vectors of our suite */
    unsigned skipped;     /* other suites, fallback patterns, the psk scheme before revision 32 */
};

/* Every vector of path; failures are printed with the name and the message's index. */
struct noise_count noise_vectors_run(const char *path);

#endif
