/*
** Which sources the core was built from: a checksum that tools/stamp writes here and in
** lua/barrier/environment.lua, which takes no core with another one.
*/
#ifndef BARRIER_STAMP_H
#define BARRIER_STAMP_H

#define BARRIER_STAMP "1901117649"

#endif
