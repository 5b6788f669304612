/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The first bytes of mapped files, as they stand in the program's memory: ELF header,
 * program headers and mostly the notes. They tell the build-id, and how the file numbers
 * its addresses, also where nobody can open the file any more.
 */
#ifndef SEGFAULT_HEAD_H
#define SEGFAULT_HEAD_H

#include "common.h"

#define HEAD_BYTES 1024		/* linkers put the build-id into the first 960 */

/* What is known of the mapping that was walked over last. */
struct head {
	__u64 file;
	__u64 address;	/* where that file's first byte is mapped, 0 if not below */
};

/* One where a word is zero: without a branch, of which each would double what the
 * verifier has to look at. */
static __always_inline __u64 is_zero(__u64 word)
{
	return ((word | -word) >> 63) ^ 1;
}

/* Steps to a mapping, which is above the last: its file begins there, or where the
 * mapping below begins if that is the same file's. */
static __always_inline void head_step(struct head *head, __u64 file, __u64 start, __u64 page_offset)
{
	__u64 first = is_zero(page_offset), same = is_zero(file ^ head->file) & (first ^ 1);

	head->address = (start & -first) | (head->address & -same);
	head->file = file;
}

#endif
