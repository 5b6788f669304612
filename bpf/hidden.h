/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What is never copied out of a process, whatever asks for it: what stands on the
 * first stack above argc (pointers to arguments and environment, and the strings
 * themselves), and the arguments where a program has moved them. Every read of user
 * memory that ends up in a record goes by this; the command line alone has arguments.
 *
 * The bounds are those of mm_struct, which the process may set: prctl(2),
 * PR_SET_MM. They count only if they are in the order in which exec(2) makes them.
 * Before exec(2) has written them, and where the kernel's layout is not known, all
 * memory is hidden.
 */
#ifndef SEGFAULT_HIDDEN_H
#define SEGFAULT_HIDDEN_H

#include "common.h"

#define ARGC_BYTES 16		/* at the stack's start: argc and argv[0], numbers */

static __always_inline int is_laid_out(struct event_header *h)
{
	return h->start_stack && h->arg_end && h->arg_start <= h->arg_end &&
	       h->start_stack < h->env_start && h->env_start <= h->env_end;
}

/* Where what may be shown from `start` on has to end, at `end` or before; `start`
 * itself where nothing may be. */
static __always_inline __u64 shown_until(struct event_header *h, __u64 start, __u64 end)
{
	__u64 first = h->start_stack + ARGC_BYTES;

	if (!is_laid_out(h))
		return start;
	if (start < h->env_end && end > first)
		end = first;
	if (start < h->arg_end && end > h->arg_start)
		end = h->arg_start;
	return end > start ? end : start;
}

/* Where the bytes begin that may be shown up to an address, from `start` on. */
static __always_inline __u64 shown_from(struct event_header *h, __u64 start, __u64 address)
{
	if (start < h->env_end && address >= h->env_end)
		start = h->env_end;
	if (start < h->arg_end && address >= h->arg_end)
		start = h->arg_end;
	return start;
}

/* Bytes of the arguments: none of the environment, though the program says that
 * both are one. */
static __always_inline __u64 argument_bytes(struct event_header *h)
{
	__u64 end = h->arg_end;

	if (!is_laid_out(h))
		return 0;
	if (h->arg_start < h->env_end && end > h->env_start)
		end = h->env_start;
	return end > h->arg_start ? end - h->arg_start : 0;
}

#endif
