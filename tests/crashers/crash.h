/* What the crash programs share: functions that stay functions.
 *
 * FRAME keeps a function out of line and unspecialised at -O2 (no inlining, no
 * .constprop or .isra copies); KEEP_FRAME after a call keeps that call from
 * becoming a jump, so that the caller has a frame when the callee crashes. */
#ifndef CRASH_H
#define CRASH_H

#if defined(__clang__)
#define FRAME __attribute__((noinline))
#else
#define FRAME __attribute__((noinline, noclone, noipa))
#endif
#define KEEP_FRAME() __asm__ volatile("" ::: "memory")

/* Null, in a way that no compiler can see. */
static int *volatile nowhere;

#endif
