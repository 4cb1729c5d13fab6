/* Which tables this machine can run: what the CPU has, and what the system saves of it. */
#include "kernels/kernels.h"
#include "kernels/tables.h"

#include <string.h>

/* Every name that `--isa` knows, slowest first. */
static const struct table {
    const char *isa, *needs;
    const struct kernels *table; /* NULL: not in a build for this kind of machine */
} tables[] = {
    { "scalar", "nothing", &kernels_scalar },
};

enum { N_TABLES = sizeof tables / sizeof *tables };

const struct kernels *kernels_nth(unsigned i)
{
    return i < N_TABLES ? tables[i].table : NULL;
}

const struct kernels *kernels_pick(const char *isa, struct why *why)
{
    if (!isa) return tables[N_TABLES - 1].table;
    for (unsigned i = 0; i < N_TABLES; i++)
        if (strcmp(isa, tables[i].isa) == 0) return tables[i].table;
    fail(why, ERR_UNSUPPORTED, "unknown instruction set '%s'", isa);
    return NULL;
}

enum err kernels_selftest(const struct kernels *k, struct why *why)
{
    (void)k, (void)why;
    return ERR_OK;
}
