/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Windows of stacks, page by page, as in bpf/stack.h: from the stack pointer upward, and
 * the calls next to main; then the same of the stack that a handler on an alternate stack
 * has interrupted, or that the program has switched from. The end of that second stack is
 * not looked up: bytes after it do no harm.
 */
#ifndef SEGFAULT_CHAIN_STACK_H
#define SEGFAULT_CHAIN_STACK_H

#include "frame_chain.h"
#include "chain.h"

#define CHUNK_BYTES 1024	/* of an alternate stack, searched at a time */
#define NAMES_CALLS 6		/* tail calls kept for the steps after that search */
#define MAX_CHUNKS 12		/* more than a signal frame needs on most processors */

/* Cuts both windows so that they hold nothing that must not be shown. */
static __always_inline void stack_hide(struct scratch *s)
{
	if (s->stack_next < s->stack_gap)
		s->stack_gap = shown_until(&s->header, s->stack_next, s->stack_gap);
	if (s->stack_resume < s->stack_stop)
		s->stack_stop = shown_until(&s->header, s->stack_resume, s->stack_stop);
}

/* Sets where the windows begin and end; both are empty if no stack is wanted. */
static __always_inline void stack_begin(struct scratch *s, struct chain_config *c)
{
	__u64 sp = s->walk.sp, start = sp - RED_ZONE, limit, end;
	__u64 first = first_stack(s), fp = s->header.regs[c->aarch64 ? REGS_ARM64_FP : REGS_X86_FP];
	__u64 mapping_start = s->walk.stack_start, mapping_end = s->walk.stack_end;
	struct event_stack *piece = (struct event_stack *)s->out;
	struct task_struct *task = (void *)bpf_get_current_task();

	piece->part.kind = PART_STACK;
	piece->part.id = s->header.part.id;
	s->out_bytes = 0;
	s->stack_next = 1; /* begun */
	s->stack_stop = 0;
	s->other = OTHER_NONE;
	if (!c->stack_bytes || !sp)
		return;
	/* An overflow leaves sp in the gap below the stack. */
	if (mapping_end && start < mapping_start)
		start = mapping_start;
	/* The stack of a thread, or one that the program made, may be read to the mapping's
	 * end. The first stack has arguments and environment above its start. */
	limit = mapping_end;
	if (!mapping_end || (mapping_start <= s->header.start_stack && s->header.start_stack < mapping_end)) {
		limit = first;
		if (sp >= limit)
			return;
	}
	if (limit == mapping_end && limit)
		s->other = OTHER_SWITCHED;
	/* Go keeps the frame pointer of its own stack while it runs C on the first one. */
	if (fp >= PAGE_BYTES && fp < sp && !(fp & 7))
		s->other = OTHER_SWITCHED;
	if (bpf_core_field_exists(task->sas_ss_sp) && bpf_core_field_exists(task->sas_ss_size)) {
		s->alternate_start = BPF_CORE_READ(task, sas_ss_sp);
		s->alternate_bytes = BPF_CORE_READ(task, sas_ss_size);
		/* The program sets these values: the stack must end below the arguments. */
		if (sp - s->alternate_start < s->alternate_bytes && sp < first &&
		    s->alternate_bytes <= first - s->alternate_start) {
			s->other = OTHER_INTERRUPTED;
			limit = s->alternate_start + s->alternate_bytes;
			s->alternate_top = limit & ~7ull;
		}
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
	stack_hide(s);
}

/* Sends one page, or what is left of a window; nonzero at the end. */
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
	/* A huge local may have pages that were never touched, which cannot be read: go on. */
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

/* Whether a chain of frame pointers seems to begin: most programs have none. */
static __always_inline int is_chained(struct scratch *s, struct chain_config *c)
{
	__u64 at = s->header.regs[c->aarch64 ? REGS_ARM64_FP : REGS_X86_FP];

	return c->stack_bytes && !(at & 7) && at - s->walk.sp < c->stack_bytes;
}

/* Goes on to the step after the stacks. */
static __always_inline int stack_end(void *ctx, struct scratch *s, struct chain_config *c)
{
	if (is_chained(s, c) && go_on(ctx, s, c, STEP_COMPILED))
		return SEEN;
	if (go_on(ctx, s, c, c->memory ? STEP_MEMORY : STEP_NAMES))
		return SEEN;
	return finish(ctx, s, c);
}

static __always_inline int send_stack(void *ctx, struct scratch *s, struct chain_config *c)
{
	if (!s->stack_next)
		stack_begin(s, c);
	for (;;) {
		if (stack_step(ctx, s))
			goto ended;
		end_round(0, more);
	}
more:
	if (go_on(ctx, s, c, STEP_STACK))
		return SEEN;
ended:
	if (s->other == OTHER_INTERRUPTED && go_on(ctx, s, c, STEP_INTERRUPTED))
		return SEEN;
	if (s->other == OTHER_SWITCHED && go_on(ctx, s, c, STEP_SWITCHED))
		return SEEN;
	return stack_end(ctx, s, c);
}

/*
 * Sets where the windows of another stack begin and end. For the first thread, the calls
 * next to main are always kept.
 */
static __always_inline void other_begin(struct scratch *s, struct chain_config *c, __u64 start)
{
	struct event_stack *piece = (struct event_stack *)s->out;
	__u64 first = first_stack(s), end = 0;

	piece->part.kind = PART_STACK;
	piece->part.id = s->header.part.id;
	s->other = OTHER_NONE;
	/* The arguments begin at `first`. */
	if (start > RECORD_FRAME && start < first) {
		start -= RECORD_FRAME;
		end = start + c->stack_bytes;
		if (end > first)
			end = first;
		s->stack_next = start;
	}
	s->stack_gap = end;
	s->stack_stop = end;
	s->stack_resume = end;
	/* Not if the window of the current stack has them. */
	if (s->header.host_pid == s->header.host_tid && end != first &&
	    !(s->walk.sp < first && first - s->walk.sp < s->walk.stack_end - s->walk.sp)) {
		s->stack_stop = first;
		if (end < first - TAIL_BYTES)
			s->stack_resume = first - TAIL_BYTES;
		if (!end)
			s->stack_next = s->stack_resume;
	}
	stack_hide(s);
}

static __always_inline int is_narrow(struct scratch *s, struct chain_config *c)
{
	if (c->aarch64)
		return is_arm(s->header.regs);
	return (s->header.regs[REGS_X86_CS] & 0xffff) == USER_CS_32;
}

/* The stack pointer in a signal frame, if the description of the alternate stack that
 * belongs to such a frame is at `at`; else 0. */
static __always_inline __u64 wide_sp(struct scratch *s, struct chain_config *c, __u64 at)
{
	__u64 start = 0, size = 0, sp = 0;

	bpf_probe_read_user(&start, sizeof(start), (void *)at);
	bpf_probe_read_user(&size, sizeof(size), (void *)(at + UC_STACK_SIZE));
	if (start != s->alternate_start || size != s->alternate_bytes)
		return 0;
	bpf_probe_read_user(&sp, sizeof(sp), (void *)(at + (c->aarch64 ? UC_SP_ARM64 : UC_SP_X86)));
	return sp;
}

/* The same for a 32-bit task of arm64; not for frames without siginfo. */
static __always_inline __u64 arm_sp(struct scratch *s, __u64 at)
{
	struct narrow_stack stack = {};
	__u32 sp = 0;

	bpf_probe_read_user(&stack, sizeof(stack), (void *)at);
	if (stack.start != s->alternate_start || stack.size != s->alternate_bytes)
		return 0;
	bpf_probe_read_user(&sp, sizeof(sp), (void *)(at - UC_STACK_ARM + UC_SP_ARM));
	return sp;
}

/* The same for one of x86, if its code segment is there. */
static __always_inline __u64 narrow_sp(__u64 at)
{
	struct narrow_registers regs;

	if (bpf_probe_read_user(&regs, sizeof(regs), (void *)(at - offsetof(struct narrow_registers, cs))))
		return 0;
	return regs.ss == USER_DS && regs.sp == regs.sp_at_signal ? regs.sp : 0;
}

/*
 * Finds the stack that a handler on an alternate stack has interrupted. The search goes
 * from the end of the alternate stack downward: the first signal frame there is the one
 * that the kernel wrote when it switched to that stack.
 */
static __always_inline int send_interrupted(void *ctx, struct scratch *s, struct chain_config *c)
{
	__u64 *words = (__u64 *)s->out, top = s->alternate_top, bytes = CHUNK_BYTES;
	__u64 start, at, word, sp = 0;
	__u32 key = s->alternate_start;

	if (is_narrow(s, c) && !c->aarch64)
		key = USER_CS_32;
	start = top - bytes;
	if (start < s->alternate_start) {
		start = s->alternate_start;
		bytes = top - start;
	}
	if (++s->alternate_chunks > MAX_CHUNKS || is_short_of_calls(s, c, MAX_CALLS - NAMES_CALLS + 1) ||
	    top <= s->walk.sp || top <= start)
		goto nothing;
	if (bpf_probe_read_user(words, bounded(bytes, CHUNK_BYTES), (void *)start))
		goto nothing;
	s->alternate_top = start;
	for (;;) {
		bytes -= 8;
		at = bytes;
		keep(at);
		word = words[(at & (CHUNK_BYTES - 8)) / 8];
		at = start + bytes;
		if ((__u32)word == key)
			goto found;
		at += 4;
		if (word >> 32 == key)
			goto found;
		if (!bytes)
			goto further;
		end_round(CHUNK_BYTES / 8, further);
	}
found:
	s->alternate_top = at & ~7ull;
	if (is_narrow(s, c) && c->aarch64)
		sp = arm_sp(s, at);
	else if (is_narrow(s, c))
		sp = narrow_sp(at);
	else
		sp = wide_sp(s, c, at);
	if (sp && sp - s->alternate_start >= s->alternate_bytes) {
		other_begin(s, c, sp - RED_ZONE);
		if (go_on(ctx, s, c, STEP_STACK))
			return SEEN;
	}
further:
	if (go_on(ctx, s, c, STEP_INTERRUPTED))
		return SEEN;
nothing:
	if (go_on(ctx, s, c, STEP_SWITCHED))
		return SEEN;
	return stack_end(ctx, s, c);
}

/* Follows the chain of frame pointers until it leaves its stack. */
static __always_inline int send_switched(void *ctx, struct scratch *s, struct chain_config *c)
{
	__u64 at = s->header.regs[c->aarch64 ? REGS_ARM64_FP : REGS_X86_FP];
	__u64 record[2]; /* the caller's frame pointer, the return address */

	for (;;) {
		if (at < PAGE_BYTES || at >= first_stack(s) ||
		    bpf_probe_read_user(record, sizeof(record), (void *)at))
			goto inside;
		if (is_narrow(s, c)) {
			record[1] = record[0] >> 32;
			record[0] = (__u32)record[0];
		}
		if (at < s->walk.sp || at >= s->walk.stack_end)
			goto left;
		at = record[0];
		end_round(MAX_RECORDS, inside);
	}
inside:
	at = 0;
	goto begin;
left:
	if (!follows_call(record[1], first_stack(s), c->aarch64))
		at = 0;
begin:
	other_begin(s, c, at);
	if (go_on(ctx, s, c, STEP_STACK))
		return SEEN;
	return stack_end(ctx, s, c);
}

/* Sends the memory around the address in one register, as bpf/memory.h does. */
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

static __always_inline int send_memory(void *ctx, struct scratch *s, struct chain_config *c)
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
	if (go_on(ctx, s, c, STEP_MEMORY))
		return SEEN;
ended:
	if (go_on(ctx, s, c, STEP_NAMES))
		return SEEN;
	return finish(ctx, s, c);
}

#endif
