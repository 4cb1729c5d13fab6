/* name.txt of a model folder: what is read is written back the same. */
#include "store/folder.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct store_name name;
    struct why why = { "" };
    char again[FOLDER_NAME_MAX], path[FILE_PATH_MAX];

    if (folder_name_parse(&name, slice_of(data, n), &why)) {
        if (!why.text[0]) abort();
        return 0;
    }
    if (!store_name_ok(name.name)) abort();
    if (folder_name_write(again, &name) != n || memcmp(again, data, n) != 0) abort();
    /* a name never leads out of the folder that it is exported to */
    if (!folder_path(path, "/r", name.name, NULL) && (strstr(path, "/.") || strstr(path, "//")))
        abort();
    return 0;
}
