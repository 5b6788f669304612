/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What is never copied out of a process, whatever the options: everything on the first
 * stack above argc (pointers to arguments and environment, and the strings themselves),
 * and the arguments in the place to which a program has moved them. Every read of user
 * memory that goes into a record keeps to this. Only the command line has arguments.
 *
 * The bounds come from mm_struct. The process can set them with prctl(2), PR_SET_MM, so
 * they count only if they are in the order in which exec(2) makes them. Before exec(2)
 * has written them, and if their offsets are not known, all memory is hidden.
 */
#ifndef SEGFAULT_HIDDEN_H
#define SEGFAULT_HIDDEN_H

#include "common.h"

#define MAX_ARGC (1 << 20)	/* of pointers more than a stack has room for */
#define VDSO_BYTES 8192	/* the vDSO has at least this size */
#define ARGC_BYTES 16		/* at the stack's start: argc and the pointer argv[0] */

static __always_inline int is_laid_out(struct event_header *h)
{
	return h->start_stack && h->arg_end && h->arg_start <= h->arg_end &&
	       h->start_stack < h->env_start && h->env_start <= h->env_end;
}

/* Above the first stack only the vDSO may be shown. env_end is no bound for this, because
 * the process may have set it. */
static __always_inline int is_vdso(struct event_header *h, __u64 address)
{
	return h->vdso && address >= h->vdso && address - h->vdso <= VDSO_BYTES;
}

/* The end of the bytes from `start` that may be shown: `end` or less, and `start` if none
 * may be. */
static __always_inline __u64 shown_until(struct event_header *h, __u64 start, __u64 end)
{
	__u64 first = h->start_stack + ARGC_BYTES;

	if (!is_laid_out(h))
		return start;
	if (!(is_vdso(h, start) && is_vdso(h, end)) && end > first)
		end = first;
	if (start < h->arg_end && end > h->arg_start)
		end = h->arg_start;
	return end > start ? end : start;
}

/* The beginning of the bytes up to `address` that may be shown: `start` or more. */
static __always_inline __u64 shown_from(struct event_header *h, __u64 start, __u64 address)
{
	if (start < h->vdso && is_vdso(h, address))
		start = h->vdso;
	if (start < h->arg_end && address >= h->arg_end)
		start = h->arg_end;
	return start;
}

/* The address of the first environment variable, from the pointer that exec(2) has written
 * after argc and argv; zero if there is none. */
static __always_inline __u64 first_variable(struct event_header *h, int is_narrow)
{
	__u64 word = is_narrow ? 4 : 8, argc = 0, first = 0;

	bpf_probe_read_user(&argc, sizeof(argc), (void *)h->start_stack);
	if (is_narrow)
		argc = (__u32)argc;
	if (argc > MAX_ARGC)
		return 0;
	bpf_probe_read_user(&first, sizeof(first), (void *)(h->start_stack + (argc + 2) * word));
	return is_narrow ? (__u32)first : first;
}

/* The number of bytes of the arguments. None of the environment is among them, even if the
 * process has set bounds that merge or swap the two. */
static __always_inline __u64 argument_bytes(struct event_header *h, int is_narrow)
{
	__u64 start = h->arg_start, end = h->arg_end, first;

	if (!is_laid_out(h))
		return 0;
	/* The program has moved them below the stack (PR_SET_MM_ARG_START). */
	if (start < h->start_stack && end <= h->start_stack)
		return end - start;
	first = first_variable(h, is_narrow);
	if (end > h->env_start)
		end = h->env_start;
	if (first > h->start_stack && end > first)
		end = first;
	return end > start ? end - start : 0;
}

#endif
