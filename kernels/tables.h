/* tables.h - the tables of this build, for pick.c and for those who fill them. */
#ifndef KERNELS_TABLES_H
#define KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const struct kernels kernels_scalar; /* ref.c */

#endif
