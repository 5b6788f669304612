/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Windows of the stack, page by page from the stack pointer upward. Arguments
 * and environment, which lie above the stack's start, are never read.
 */
#ifndef SEGFAULT_STACK_H
#define SEGFAULT_STACK_H

#include "scratch.h"

#define RED_ZONE 128		/* x86-64 leaf functions use this much below sp */
#define ARGC_BYTES 16		/* at the stack's start: argc and argv[0], numbers */
#define TAIL_BYTES (32 * 1024)	/* kept of the oldest frames */
#define MAX_PAGES 256

/* One page, or what is left of the window; nonzero at its end. */
static __always_inline int stack_step(struct scratch *s)
{
	struct event_stack *piece = (struct event_stack *)s->out;
	__u64 address = s->stack_next;
	__u64 bytes = PAGE_BYTES - (address & (PAGE_BYTES - 1));

	if (address >= s->stack_end)
		return 1;
	if (bytes > s->stack_end - address)
		bytes = s->stack_end - address;
	keep(bytes);
	if (bytes > PAGE_BYTES)
		return 1;
	if (bpf_probe_read_user(s->out + sizeof(*piece), bytes, (void *)address))
		return 1;
	piece->address = address;
	s->out_bytes = sizeof(*piece) + bytes;
	s->stack_next = address + bytes;
	send_out(PART_STACK, LOST_RING_STACK);
	if (s->end.lost & LOST_RING_STACK)
		return 1;
	s->end.stack_bytes += bytes;
	return 0;
}

static long stack_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();

	return s ? stack_step(s) : 1;
}

static __always_inline void send_window(struct scratch *s, __u64 start, __u64 end)
{
	s->stack_next = start;
	s->stack_end = end;
	bpf_loop(MAX_PAGES, stack_callback, 0, 0);
}

static __always_inline void send_stack(struct scratch *s)
{
	__u64 sp = s->walk.sp, start = sp - RED_ZONE, end;
	__u64 limit = s->header.start_stack + ARGC_BYTES;

	if (!stack_bytes || !sp)
		return;
	/* An overflow leaves sp in the gap below the stack. */
	if (s->walk.stack_end && start < s->walk.stack_start)
		start = s->walk.stack_start;
	/* Of threads, and of stacks that the program made: to the mapping's end. */
	if (sp > limit || s->walk.stack_end <= s->header.start_stack)
		limit = s->walk.stack_end;
	end = start + stack_bytes;
	if (limit && end > limit)
		end = limit;
	send_window(s, start, end);
	/* The calls next to main, when frames with huge locals lie between. */
	if (limit && end < limit && s->stack_next == end) {
		if (end < limit - TAIL_BYTES)
			end = limit - TAIL_BYTES;
		send_window(s, end, limit);
	}
}

#endif
