/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What every program here needs: sizes, and ways to read kernel memory.
 *
 * Where a field may be missing in some kernel, its use stands in a block of its
 * own that begins with its test, never in the else of another's: verifiers
 * before 4.20 leave out a branch on a constant only where the constant is zero.
 */
#ifndef SEGFAULT_COMMON_H
#define SEGFAULT_COMMON_H

#include <stddef.h>

#include "event.h"
#include "kernel.h"

#define OUT_BYTES 0x4000	/* addressable by a 14-bit mask */
#define NAME_MAX_BYTES 256	/* one path component with its NUL */
#define PAGE_BYTES 4096		/* pieces of stack; a divisor of every page size */
#define NODE_WORDS 32		/* a maple node is 256 bytes */

/* Reads kernel memory into a variable; what cannot be read becomes zero. */
#define read_kernel(into, from) \
	bpf_probe_read_kernel(&(into), sizeof(into), (const void *)(from))

/* Zeroes memory in one call: a read that fails clears what it was to fill. */
#define clear(into, bytes) bpf_probe_read_kernel(into, bytes, 0)

/* Tells the compiler that a value may have changed, so that it keeps the bounds
 * check beside the use: the verifier looks at the instructions in their order. */
#define keep(value) asm volatile("" : "+r"(value))

/*
 * A length from 1 to a power of two. Before 5.3 a verifier forgets a number, even a
 * constant one, that the compiler puts on the stack for a while: the mask has to
 * stand right before the use. tests/old_verifier/ says what else they cannot follow.
 */
static __always_inline __u64 bounded(__u64 bytes, __u64 limit)
{
	bytes--;
	keep(bytes);
	return (bytes & (limit - 1)) + 1;
}

/* A field that some kernels lack; zero there. */
#define read_if_there(object, field) \
	(bpf_core_field_exists((object)->field) ? BPF_CORE_READ(object, field) : 0)

#define SI_KERNEL 0x80	/* as a code: the kernel's, and without an address */

static __always_inline int has_address(__s32 code)
{
	return code > 0 && code != SI_KERNEL;
}

#endif
