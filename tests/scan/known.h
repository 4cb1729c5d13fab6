/* What clang's analyzer cannot see from one file: fail() returns the code that it is given, never
 * ERR_OK.  Included before every file that scripts/scan.sh has analyzed. */
#ifndef TESTS_SCAN_KNOWN_H
#define TESTS_SCAN_KNOWN_H

#include "base/err.h"

void scan_said(struct why *why, ...);
#define fail(why, code, ...) (scan_said(why, __VA_ARGS__), (code))

#endif
