/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Windows of the stack, page by page: from the stack pointer upward, and the
 * calls next to main, as bpf/stack.h has them.
 */
#ifndef SEGFAULT_OLD_STACK_H
#define SEGFAULT_OLD_STACK_H

#include "old.h"

#define RED_ZONE 128		/* x86-64 leaf functions use this much below sp */
#define ARGC_BYTES 16		/* at the stack's start: argc and argv[0], numbers */
#define TAIL_BYTES (32 * 1024)	/* kept of the oldest frames */

/* Where the windows begin and end; nothing where no stack is wanted. */
static __always_inline void stack_begin(struct scratch *s, struct old_config *c)
{
	__u64 sp = s->walk.sp, start = sp - RED_ZONE, limit, end;
	__u64 mapping_start = s->walk.stack_start, mapping_end = s->walk.stack_end;
	struct event_stack *piece = (struct event_stack *)s->out;

	piece->part.kind = PART_STACK;
	piece->part.id = s->header.part.id;
	s->out_bytes = 0;
	s->stack_next = 1; /* begun */
	s->stack_stop = 0;
	if (!c->stack_bytes || !sp)
		return;
	/* An overflow leaves sp in the gap below the stack. */
	if (mapping_end && start < mapping_start)
		start = mapping_start;
	/* Of threads, and of stacks that the program made: to the mapping's end. The
	 * first stack has arguments and environment above its start. */
	limit = mapping_end;
	if (!mapping_end || (mapping_start <= s->header.start_stack && s->header.start_stack < mapping_end)) {
		limit = s->header.start_stack + ARGC_BYTES;
		if (sp >= limit)
			return;
	}
	end = start + c->stack_bytes;
	if (limit && end > limit)
		end = limit;
	s->stack_next = start;
	s->stack_gap = end;
	s->stack_resume = end;
	s->stack_stop = end;
	if (limit && end < limit) {
		s->stack_stop = limit;
		if (end < limit - TAIL_BYTES)
			s->stack_resume = limit - TAIL_BYTES;
	}
}

/* One page, or what is left of a window; nonzero at the end. */
static __always_inline int stack_step(void *ctx, struct scratch *s)
{
	struct event_stack *piece = (struct event_stack *)s->out;
	__u64 address = s->stack_next, stop = s->stack_stop, bytes;

	if (address == s->stack_gap)
		address = s->stack_resume;
	if (address < s->stack_gap)
		stop = s->stack_gap;
	if (address >= stop)
		return 1;
	bytes = PAGE_BYTES - (address & (PAGE_BYTES - 1));
	if (bytes > stop - address)
		bytes = stop - address;
	s->stack_next = address + bytes;
	/* Pages of huge locals that were never touched cannot be read: go on. */
	if (bpf_probe_read_user(s->out + sizeof(*piece), bounded(bytes, PAGE_BYTES), (void *)address))
		return 0;
	piece->address = address;
	bytes += sizeof(*piece);
	piece->part.size = bytes;
	if (send(ctx, s, s->out, bounded(bytes, 2 * PAGE_BYTES), LOST_RING_STACK))
		return 1;
	s->end.stack_bytes += bytes - sizeof(*piece);
	return 0;
}

static __always_inline int send_stack(void *ctx, struct scratch *s, struct old_config *c)
{
	if (!s->stack_next)
		stack_begin(s, c);
	for (;;) {
		if (stack_step(ctx, s))
			goto ended;
		end_round(0, more);
	}
more:
	go_on(ctx, s, STEP_STACK);
ended:
	go_on(ctx, s, STEP_MEMORY); /* there only with --memory */
	go_on(ctx, s, STEP_NAMES);
	return finish(ctx, s, c);
}

/* What stands around one register's value, as bpf/memory.h has it. */
static __always_inline void memory_step(void *ctx, struct scratch *s, __u64 address)
{
	struct event_stack *piece = (struct event_stack *)s->out;
	__u64 start, end, bytes;

	if (!memory_around(&s->header, address, 0, &start, &end))
		return;
	bytes = end - start;
	if (bpf_probe_read_user(s->out + sizeof(*piece), bounded(bytes, MEMORY_BYTES), (void *)start)) {
		if (!memory_around(&s->header, address, 1, &start, &end))
			return;
		bytes = end - start;
		if (bpf_probe_read_user(s->out + sizeof(*piece), bounded(bytes, MEMORY_BYTES),
					(void *)start))
			return;
	}
	piece->part.kind = PART_MEMORY;
	piece->part.id = s->header.part.id;
	piece->part.size = sizeof(*piece) + bytes;
	piece->address = start;
	send(ctx, s, s->out, bounded(sizeof(*piece) + bytes, 256), LOST_RING_MEMORY);
}

static __always_inline int send_memory(void *ctx, struct scratch *s, struct old_config *c)
{
	for (;;) {
		__u64 at = s->memory_at;

		if (at >= EVENT_REGS)
			goto ended;
		s->memory_at = at + 1;
		memory_step(ctx, s, s->header.regs[at]);
		end_round(0, more);
	}
more:
	go_on(ctx, s, STEP_MEMORY);
ended:
	go_on(ctx, s, STEP_NAMES);
	return finish(ctx, s, c);
}

#endif
