/* err.h - what can go wrong: one list of codes, and the sentence for people.
 *
 * Functions that can fail return `enum err`; 0 is good.  Where a person has to
 * know what and where (a file, an argument, a tensor), the function also takes
 * a `struct why *` and fills it with one sentence through fail().  A NULL why
 * is allowed everywhere: the code alone is returned. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* clang-format off */
#define ERR_LIST(X)                                                        \
    X(NOMEM,       1, "out of memory")                                     \
    X(FULL,        2, "no room left; try again later")                     \
    X(CLOSED,      3, "the other side has gone")                           \
    X(MALFORMED,   4, "the bytes do not parse")                            \
    X(RANGE,       5, "a value is outside its declared bounds")            \
    X(AUTH,        6, "a key, tag or signature does not verify")           \
    X(IO,          7, "disk or socket failed")                             \
    X(NOTFOUND,    8, "not found")                                         \
    X(UNSUPPORTED, 9, "not supported")                                     \
    X(EXISTS,     10, "already there")                                     \
    X(BUSY,       11, "busy; try again later")                             \
    X(TIMEOUT,    12, "no answer in time")                                 \
    X(CANCELLED,  13, "cancelled")                                         \
    X(NONFINITE,  14, "a number is infinite or not a number")              \
    X(DISKFULL,   15, "the disk is full")                                  \
    X(DENIED,     16, "not allowed")                                       \
    X(USAGE,      17, "unusable argument")
/* clang-format on */

enum err {
    ERR_OK = 0,
#define X(name, n, text) ERR_##name = -(n),
    ERR_LIST(X)
#undef X
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* What went wrong, for people.  Static string, never NULL. */
const char *err_text(enum err e);

/* One sentence: what is wrong, where, and if possible what to do. */
struct why {
    char text[512];
};

/* Fill why (if not NULL) like printf and return e, so that a check is one line:
 *     if (n > MAX) return fail(why, ERR_RANGE, "%s: %u rows, at most %u", name, n, MAX);
 * Control characters in the result are replaced by '?': names come from files and peers. */
__attribute__((format(printf, 3, 4))) enum err fail(struct why *why, enum err e, const char *fmt,
                                                    ...);

#endif
