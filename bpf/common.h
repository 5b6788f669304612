/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What every program here needs: sizes, and ways to read kernel memory.
 *
 * If a field may be missing in some kernel, its use must be in a block of its own
 * that begins with the test for that field, and not in an else branch: verifiers
 * before 4.20 skip a branch on a constant only if the constant is zero.
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

/* Reads kernel memory into a variable, which becomes zero if the read fails. */
#define read_kernel(into, from) \
	bpf_probe_read_kernel(&(into), sizeof(into), (const void *)(from))

/* Zeroes memory in one call: a read that fails clears its destination. */
#define clear(into, bytes) bpf_probe_read_kernel(into, bytes, 0)

/* Makes the compiler assume that a value has changed, so that it keeps the bounds
 * check next to the use. The verifier checks instructions in their order. */
#define keep(value) asm volatile("" : "+r"(value))

/*
 * A length from 1 to a power of two. Before 5.3 the verifier forgets the value of a
 * number, even of a constant, that the compiler spills to the stack. So the mask must
 * come right before the use. tests/old_verifier/ lists what else old verifiers cannot
 * follow.
 */
static __always_inline __u64 bounded(__u64 bytes, __u64 limit)
{
	bytes--;
	keep(bytes);
	return (bytes & (limit - 1)) + 1;
}

/* The value of a field, or zero if the kernel lacks it. */
#define read_if_there(object, field) \
	(bpf_core_field_exists((object)->field) ? BPF_CORE_READ(object, field) : 0)

#define SI_KERNEL 0x80	/* a code of the kernel's that comes without an address */

static __always_inline int has_address(__s32 code)
{
	return code > 0 && code != SI_KERNEL;
}

#endif
