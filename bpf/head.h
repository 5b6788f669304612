/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The first bytes of mapped files, read from the program's memory: ELF header, program
 * headers and usually the notes. They have the build-id, and the addresses that the file
 * uses, even if the file cannot be opened any more.
 */
#ifndef SEGFAULT_HEAD_H
#define SEGFAULT_HEAD_H

#include "common.h"

#define HEAD_BYTES 1024		/* linkers put the build-id into the first 960 */

/* The state after the last mapping of the walk. */
struct head {
	__u64 file;
	__u64 address;	/* where that file's first byte is mapped, 0 if nowhere so far */
};

/* 1 if a word is zero, else 0. Without a branch, because each branch would double the work
 * of the verifier. */
static __always_inline __u64 is_zero(__u64 word)
{
	return ((word | -word) >> 63) ^ 1;
}

/* Goes on to the next mapping, which is above the last. If it maps the beginning of its
 * file, the head is at its start; otherwise, if the mapping below maps the same file, the
 * head stays. */
static __always_inline void head_step(struct head *head, __u64 file, __u64 start, __u64 page_offset)
{
	__u64 first = is_zero(page_offset), same = is_zero(file ^ head->file) & (first ^ 1);

	head->address = (start & -first) | (head->address & -same);
	head->file = file;
}

#endif
