#include "base/err.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

const char *err_text(enum err e)
{
    switch (e) {
    case ERR_OK: return "ok";
#define X(name, n, text) \
    case ERR_##name: return text;
        ERR_LIST(X)
#undef X
    }
    return "unknown error";
}

enum err fail(struct why *why, enum err e, const char *fmt, ...)
{
    if (!why) return e;

    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
    for (char *c = why->text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return e;
}
