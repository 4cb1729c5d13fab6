/* config_dir.h - this person's configuration folder: $XDG_CONFIG_HOME/swarm, else ~/.config/swarm.
 */
#ifndef HOME_CONFIG_DIR_H
#define HOME_CONFIG_DIR_H

#include "store/file.h"

/* The path of a file in it; with make set the folders are made (0700), not the file.  ERR_USAGE
 * with why: no folder is known. */
MUST_CHECK enum err config_file(char out[FILE_PATH_MAX], const char *name, bool make,
                                struct why *why);

#endif
