#include "tools/terminal.h"

#include <stdlib.h>
#include <unistd.h>

/* Bytes of the character at p (n left), and what it is; malformed bytes count as one control. */
static size_t decode(const uint8_t *p, size_t n, uint32_t *c)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    *c = 0;
    if (len == 0 || len > n) return 1;
    *c = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            *c = 0;
            return 1;
        }
        *c = *c << 6 | (p[i] & 0x3f);
    }
    return len;
}

static bool is_harmless(uint32_t c)
{
    if (c == '\n' || c == '\t') return true;
    if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return false;
    return !(c >= 0x202a && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

void terminal_clean(struct text *out, struct slice s)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t c;
        n = decode(s.p + i, s.n - i, &c);
        if (is_harmless(c)) text_add(out, s.p + i, n);
    }
}

void terminal_print(FILE *f, struct slice s)
{
    struct text clean = { 0 };
    terminal_clean(&clean, s);
    if (clean.n > 0 && !clean.failed) fwrite(clean.p, 1, clean.n, f);
    free(clean.p);
    fflush(f);
}

bool terminal_has_style(FILE *f)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    return isatty(fileno(f)) && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

void terminal_dim(FILE *f, bool dim)
{
    if (terminal_has_style(f)) fputs(dim ? "\033[2m" : "\033[0m", f);
}
