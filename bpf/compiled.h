/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Code that is in no file that the tool could read later: the output of a just-in-time
 * compiler, in anonymous memory or a memfd. Words of the captured stack that point
 * there may be return addresses; the code before each shows whether it follows a call.
 */
#ifndef SEGFAULT_COMPILED_H
#define SEGFAULT_COMPILED_H

#include "frame_chain.h"
#include "identity.h"
#include "scratch.h"

#define FUSE_SUPER_MAGIC 0x65735546	/* a file system that even root may not read */

struct super_block___magic {
	unsigned long s_magic;
} __attribute__((preserve_access_index));

struct inode___links {
	struct super_block___magic *i_sb;
	unsigned int i_nlink;
} __attribute__((preserve_access_index));

static __always_inline int is_compiled(struct scratch *s, struct file *file, __u64 start, __u64 end)
{
	struct inode___links *inode = 0;

	if (!file)
		return s->header.vdso < start || s->header.vdso >= end;
	/* The types of a measured kernel do not have all of these. */
	if (!bpf_core_field_exists(file->f_inode) || !bpf_core_field_exists(inode->i_nlink) ||
	    !bpf_core_field_exists(((struct super_block___magic *)0)->s_magic))
		return 0;
	inode = (void *)BPF_CORE_READ(file, f_inode);
	return !BPF_CORE_READ(inode, i_nlink) || BPF_CORE_READ(inode, i_sb, s_magic) == FUSE_SUPER_MAGIC;
}

/* Notes the range of such a mapping. If there are too many, the last range grows. */
static __always_inline void note_compiled(struct scratch *s, struct file *file, __u64 start, __u64 end)
{
	struct compiled *c = &s->compiled;
	__u32 at;

	if (!stack_bytes || !is_compiled(s, file, start, end))
		return;
	if (!c->count)
		c->low = start;
	c->high = end;
	at = c->count;
	if (at && c->end[(at - 1) & (COMPILED_RANGES - 1)] == start) {
		at--;
	} else if (at < COMPILED_RANGES) {
		c->start[at & (COMPILED_RANGES - 1)] = start;
		c->count = at + 1;
	} else {
		at = COMPILED_RANGES - 1;
	}
	c->end[at & (COMPILED_RANGES - 1)] = end;
}

/* Looks at one word of the page of stack in out. */
static long word_callback(__u32 at, void *unused)
{
	struct scratch *s = scratch();
	struct event_code *site;
	struct compiled *c;
	__u64 word, n;

	if (!s)
		return 1;
	c = &s->compiled;
	word = *(__u64 *)(s->out + sizeof(struct event_stack) + (at & (PAGE_BYTES / 8 - 1)) * 8);
	if (!is_x86())
		word &= (1ull << ARM64_CODE_BITS) - 1;
	if (word <= c->low || word > c->high)
		return 0;
	n = 0;
	for (__u32 i = 0; i < COMPILED_RANGES; i++)
		n |= word - c->start[i] - 1 < c->end[i] - c->start[i];
	if (!n)
		return 0;
	n = c->sites;
	if (n >= COMPILED_SITES)
		return 1;
	word -= EVENT_CODE_BEFORE;
	/* In a recursion the same address returns again and again. */
	if (c->last[0] == word || c->last[1] == word)
		return 0;
	site = &c->site[n & (COMPILED_SITES - 1)];
	if (bpf_probe_read_user(site->code, sizeof(site->code), (void *)word))
		return 0;
	site->address = word;
	c->last[n & 1] = word;
	c->sites = n + 1;
	return 0;
}

/* After a piece of stack was read. */
static __always_inline void look_for_compiled(struct scratch *s, __u64 bytes)
{
	if (s->compiled.count)
		bpf_loop(bytes / 8, word_callback, 0, 0);
}

static __always_inline void send_compiled(struct scratch *s)
{
	struct compiled *c = &s->compiled;
	__u64 bytes = c->sites;

	if (!bytes)
		return;
	c->part.kind = PART_CODE;
	c->part.id = s->header.part.id;
	keep(bytes);
	if (bytes > COMPILED_SITES)
		return;
	bytes = sizeof(struct part) + bytes * sizeof(struct event_code);
	c->part.size = bytes;
	if (ring_free() < bytes + s->keep_free || send(&c->part, bytes, BPF_RB_NO_WAKEUP))
		s->end.lost |= LOST_RING_STACK;
}

#endif
