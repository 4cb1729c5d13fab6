#include "home/config_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The folder above ours. */
static enum err find_base(char out[FILE_PATH_MAX], struct why *why)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (config && config[0] == '/') {
        if (strlen(config) >= FILE_PATH_MAX)
            return fail(why, ERR_RANGE, "XDG_CONFIG_HOME is too long");
        strcpy(out, config);
        return ERR_OK;
    }
    if (home && home[0] == '/') return file_path(out, home, ".config", why);
    return fail(why, ERR_USAGE, "neither XDG_CONFIG_HOME nor HOME is set");
}

enum err config_file(char out[FILE_PATH_MAX], const char *name, bool make, struct why *why)
{
    char base[FILE_PATH_MAX], dir[FILE_PATH_MAX];
    enum err e = find_base(base, why);

    if (!e) e = file_path(dir, base, "swarm", why);
    if (e) return e;
    if (make) {
        (void)mkdir(base, 0700); /* it usually exists; what fails here fails below too */
        if (mkdir(dir, 0700) != 0 && errno != EEXIST)
            return fail(why, ERR_IO, "%s: %s", dir, strerror(errno));
    }
    return file_path(out, dir, name, why);
}
