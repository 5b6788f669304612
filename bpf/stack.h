/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Sends windows of the stack, page by page from the stack pointer upward; then of the stack
 * that a handler on an alternate stack has interrupted; then of the stack from which the
 * program has switched to one that it made itself. hidden.h says what is never sent.
 */
#ifndef SEGFAULT_STACK_H
#define SEGFAULT_STACK_H

#include "frame_chain.h"
#include "identity.h"
#include "scratch.h"

#define MAX_PAGES 256
#define WORDS_IN_PAGE (PAGE_BYTES / 8)
#define MAX_SCANNED_PAGES 16
#define MAX_SWITCHES 4		/* of stacks below the current one */
#define BETWEEN_BYTES 64	/* of a frame: its record, and the registers saved below */

/*
 * Checks whether one word of the page in out begins the description of the alternate stack
 * that the kernel writes into every signal frame.
 */
static long frame_callback(__u32 at, void *unused)
{
	struct scratch *s = scratch();
	__u64 address, size = 0, sp = 0;

	if (!s)
		return 1;
	if (((__u64 *)s->out)[at & (WORDS_IN_PAGE - 1)] != s->alternate_start)
		return 0;
	address = s->stack_next + at * 8;
	bpf_probe_read_user(&size, sizeof(size), (void *)(address + UC_STACK_SIZE));
	if (s->alternate_start + size != s->alternate_end)
		return 0;
	bpf_probe_read_user(&sp, sizeof(sp), (void *)(address + (is_x86() ? UC_SP_X86 : UC_SP_ARM64)));
	if (sp >= s->alternate_start && sp < s->alternate_end)
		return 0; /* a signal that interrupted the handler of another one */
	s->walk.interrupted_sp = sp;
	bpf_probe_read_user(&s->frame_pointer, sizeof(s->frame_pointer),
			    (void *)(address + (is_x86() ? UC_FP_X86 : UC_FP_ARM64)));
	return 1;
}

/*
 * The same for a 32-bit task of arm64, by that description or by the kernel's mark of a
 * frame that lacks it.
 */
static __always_inline long arm_step(struct scratch *s, __u32 at)
{
	__u64 address = s->stack_next + at * 4;
	__u32 word = ((__u32 *)s->out)[at & (2 * WORDS_IN_PAGE - 1)], sp = 0, fp = 0;
	struct narrow_stack stack = {};

	if (word != UC_MARK_ARM) {
		if (word != s->alternate_start ||
		    bpf_probe_read_user(&stack, sizeof(stack), (void *)address) ||
		    s->alternate_start + stack.size != s->alternate_end)
			return 0;
		address -= UC_STACK_ARM;
	}
	bpf_probe_read_user(&sp, sizeof(sp), (void *)(address + UC_SP_ARM));
	if (sp >= s->alternate_start && sp < s->alternate_end)
		return 0;
	bpf_probe_read_user(&fp, sizeof(fp), (void *)(address + UC_FP_ARM));
	s->walk.interrupted_sp = sp;
	s->frame_pointer = fp;
	return 1;
}

/*
 * The same for a 32-bit task, whose signal frame does not always have that description.
 * This looks for a word that may be the code segment among the registers in the frame.
 */
static long narrow_callback(__u32 at, void *unused)
{
	struct scratch *s = scratch();
	struct narrow_registers regs;
	__u64 address;

	if (!s)
		return 1;
	if (!is_x86())
		return arm_step(s, at);
	if (((__u32 *)s->out)[at & (2 * WORDS_IN_PAGE - 1)] != USER_CS_32)
		return 0;
	address = s->stack_next + at * 4 - offsetof(struct narrow_registers, cs);
	if (bpf_probe_read_user(&regs, sizeof(regs), (void *)address))
		return 0;
	if (regs.ss != USER_DS || regs.sp != regs.sp_at_signal)
		return 0;
	if (regs.sp >= s->alternate_start && regs.sp < s->alternate_end)
		return 0;
	s->walk.interrupted_sp = regs.sp;
	s->frame_pointer = regs.fp;
	return 1;
}

static long scan_callback(__u32 page, void *unused)
{
	struct scratch *s = scratch();
	__u64 bytes;

	if (!s || s->stack_next >= s->alternate_end)
		return 1;
	bytes = PAGE_BYTES - (s->stack_next & (PAGE_BYTES - 1));
	keep(bytes);
	if (bytes > PAGE_BYTES)
		return 1;
	/* Bytes after the stack in the same page do no harm. */
	if (bpf_probe_read_user(s->out, bytes, (void *)s->stack_next))
		return 1;
	if (s->is_narrow)
		bpf_loop(bytes / 4, narrow_callback, 0, 0);
	else
		bpf_loop(bytes / 8, frame_callback, 0, 0);
	s->stack_next += bytes;
	return s->walk.interrupted_sp != 0;
}

/* Finds the stack that a handler on an alternate stack has interrupted. */
static __always_inline void find_interrupted(struct scratch *s, struct task_struct *task)
{
	__u64 sp = s->walk.sp;

	s->is_narrow = is_x86() ? (s->header.regs[REGS_X86_CS] & 0xffff) == USER_CS_32 : is_arm(s->header.regs);
	s->frame_pointer = s->header.regs[is_x86() ? REGS_X86_FP : REGS_ARM64_FP];
	if (!is_x86() && s->is_narrow)
		s->frame_pointer = (__u32)s->header.regs[REGS_ARM_FP];
	s->alternate_start = BPF_CORE_READ(task, sas_ss_sp);
	s->alternate_end = s->alternate_start + BPF_CORE_READ(task, sas_ss_size);
	if (!stack_bytes || sp < s->alternate_start || sp >= s->alternate_end) {
		s->alternate_end = 0;
		return;
	}
	s->stack_next = sp & ~7ull;
	bpf_loop(MAX_SCANNED_PAGES, scan_callback, 0, 0);
}

/* Sends one page, or what is left of the window; nonzero at its end. */
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
	s->stack_next = address + bytes;
	/* A huge local may have pages that were never touched, which cannot be read: go on. */
	if (bpf_probe_read_user(s->out + sizeof(*piece), bytes, (void *)address))
		return 0;
	piece->address = address;
	look_for_compiled(s, bytes);
	s->out_bytes = sizeof(*piece) + bytes;
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
	s->stack_end = shown_until(&s->header, start, end);
	bpf_loop(MAX_PAGES, stack_callback, 0, 0);
}

/*
 * Sends the current record of the chain of frame pointers, if it lies between the windows,
 * and goes on to the next.
 */
static long between_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();
	struct event_stack *piece;
	__u64 at, next = 0;

	if (!s)
		return 1;
	at = s->frame_pointer;
	if (at < s->between_from || at >= s->between_to || (at & 7) ||
	    bpf_probe_read_user(&next, sizeof(next), (void *)at))
		return 1;
	piece = (struct event_stack *)s->out;
	s->between_from = at + 16;
	s->frame_pointer = next;
	if (at < s->between_gap)
		return 0;
	piece->address = at - BETWEEN_BYTES + 16;
	if (bpf_probe_read_user(s->out + sizeof(*piece), BETWEEN_BYTES, (void *)piece->address))
		return 0;
	s->out_bytes = sizeof(*piece) + BETWEEN_BYTES;
	send_out(PART_STACK, LOST_RING_STACK);
	return 0;
}

/*
 * Sends two windows of one stack: from sp upward, and the calls next to main. If frames
 * with huge locals lie between the two, it sends the records there that frame pointers
 * lead to.
 */
separate int send_stack_at(__u64 sp, __u64 mapping_start, __u64 mapping_end, __u64 alternate_end)
{
	struct scratch *s = scratch();
	__u64 start = sp - RED_ZONE, limit, end;

	if (!s)
		return 0;
	/* An overflow leaves sp in the gap below the stack. */
	if (mapping_end && start < mapping_start)
		start = mapping_start;
	/* The stack of a thread, or one that the program made, may be read to the mapping's
	 * end. The first stack has arguments and environment above its start. */
	limit = mapping_end;
	if (!mapping_end || (mapping_start <= s->header.start_stack && s->header.start_stack < mapping_end)) {
		limit = first_stack(s);
		if (sp >= limit)
			return 0;
	}
	/* The program sets this value: the stack must end below the arguments. */
	if (alternate_end && alternate_end <= first_stack(s))
		limit = alternate_end;
	end = start + stack_bytes;
	if (limit && end > limit)
		end = limit;
	send_window(s, start, end);
	if (limit && end < limit && s->stack_next == end) {
		s->between_from = start;
		s->between_gap = end;
		if (end < limit - TAIL_BYTES)
			end = limit - TAIL_BYTES;
		s->between_to = end;
		if (!s->is_narrow && s->between_gap < end)
			bpf_loop(MAX_RECORDS, between_callback, 0, 0);
		send_window(s, end, limit);
	}
	return 0;
}

/* Checks whether the current record of the chain is on another stack, and goes on to the
 * next. */
static long record_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();
	__u64 record[2] = {}; /* the caller's frame pointer, the return address */
	__u64 at;

	if (!s)
		return 1;
	at = s->frame_pointer;
	if (at >= first_stack(s) || bpf_probe_read_user(record, sizeof(record), (void *)at))
		return 1;
	if (s->is_narrow) {
		record[1] = record[0] >> 32;
		record[0] = (__u32)record[0];
	}
	if (at < s->stack_next || at >= s->stack_end) {
		if (follows_call(record[1], first_stack(s), !is_x86()))
			s->other_stack = at;
		return 1;
	}
	s->frame_pointer = record[0];
	return 0;
}

/*
 * A program that calls a function on a stack that it made will return to the stack that it
 * was on before, which may be another that it made (-fsplit-stack). For the first thread the
 * last of these is the first stack. The chain of frame pointers, if there is one, shows where
 * on the other stack the calls go on. Without it only the calls next to main are sent, and of
 * another thread nothing. Sends one of these stacks, if there is one.
 */
separate int send_next_stack(void)
{
	struct scratch *s = scratch();
	__u64 first, start, end;

	if (!s)
		return 0;
	s->other_stack = 0;
	bpf_loop(MAX_RECORDS, record_callback, 0, 0);
	first = first_stack(s);
	if (!s->other_stack)
		return 0;
	start = s->other_stack - RECORD_FRAME;
	end = start + stack_bytes;
	if (end > first)
		end = first;
	send_window(s, start, end);
	s->switched_end = end;
	/* The next round follows the chain from here. */
	s->frame_pointer = s->other_stack;
	s->stack_next = start;
	s->stack_end = end;
	return 1;
}

separate int send_other_stack(__u64 low, __u64 high)
{
	struct scratch *s = scratch();
	__u64 first, start;

	if (!s)
		return 0;
	s->stack_next = low;
	s->stack_end = high;
	s->switched_end = 0;
	for (int switches = 0; switches < MAX_SWITCHES; switches++) {
		if (!send_next_stack())
			break;
	}
	first = first_stack(s);
	/* The window of the current stack has the calls next to main. */
	if (low < first && first < high)
		return 0;
	if (s->header.host_tid == s->header.host_pid) {
		start = first - TAIL_BYTES;
		if (s->switched_end > start)
			start = s->switched_end;
		send_window(s, start, first);
	}
	return 0;
}

static __always_inline void send_stack(struct scratch *s)
{
	struct mapping_walk *w = &s->walk;
	__u64 sp = w->sp, start = w->stack_start, end = w->stack_end;

	if (!stack_bytes || !sp)
		return;
	send_stack_at(sp, start, end, s->alternate_end);
	if (w->interrupted_sp) {
		sp = w->interrupted_sp;
		start = w->interrupted_start;
		end = w->interrupted_end;
		send_stack_at(sp, start, end, 0);
	}
	if (end)
		send_other_stack(sp, end);
}

#endif
