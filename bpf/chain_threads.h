/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The other threads, as bpf/threads.h sends them, in unrolled steps. Each page of a stack is
 * a part. All parts together have at most as many bytes as the settings allow, because the
 * end of the record needs room in the ring, too.
 */
#ifndef SEGFAULT_CHAIN_THREADS_H
#define SEGFAULT_CHAIN_THREADS_H

#include "chain_delivery.h"

#define THREAD_PAGES 3		/* of a stack, in a round */
#define HEAD_MASK 511		/* event_thread with its registers is shorter */

static __always_inline void threads_begin(struct scratch *s, struct chain_config *c,
					  struct task_struct *task)
{
	struct thread_walk *w = &s->threads;
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct pid *pid = pid_of(task);
	__u32 level = 0, ns_inode;

	w->signal = (__u64)signal;
	w->head = (__u64)signal + bpf_core_field_offset(struct signal_struct, thread_head);
	w->next = (__u64)BPF_CORE_READ(signal, thread_head.next);
	w->crashed = (__u64)task;
	w->regs_at = (__u64)user_regs(s, c, task) - (__u64)BPF_CORE_READ(task, stack);
	w->room = c->thread_bytes;
	w->begun = 1;
	if (bpf_core_field_exists(signal->nr_threads))
		s->end.threads = BPF_CORE_READ(signal, nr_threads);
	if (!bpf_core_field_exists(pid->numbers))
		return;
	w->level = BPF_CORE_READ(pid, level) & 31;
	for (;;) {
		pid_at(pid, level, &ns_inode);
		if (ns_inode == c->own_pid_ns)
			goto found;
		if (++level > w->level)
			break;
		end_round(PID_NS_LEVELS, unknown);
	}
unknown:
	return;
found:
	w->own_level = level + 1;
}

/* Begins with the next thread of the list; nonzero at its end. */
static __always_inline int thread_begin(struct scratch *s, struct chain_config *c)
{
	struct thread_walk *w = &s->threads;
	struct event_thread *t = (struct event_thread *)s->out;
	__u64 node = w->next, sp, *words = (__u64 *)(t + 1);
	struct task_struct *task;
	const void *regs;
	long failed;

	if (node == w->head || (s->end.lost & LOST_THREADS))
		return 1;
	task = (void *)(node - bpf_core_field_offset(struct task_struct, thread_node));
	if ((__u64)BPF_CORE_READ(task, signal) != w->signal) {
		s->end.lost |= LOST_THREADS_TORN;
		return 1;
	}
	w->next = (__u64)BPF_CORE_READ(task, thread_node.next);
	if ((__u64)task == w->crashed)
		return 0;
	if (w->sent >= c->threads) {
		s->end.lost |= LOST_THREADS_CUT;
		return 1;
	}
	w->sent++;
	w->begun = 0;
	w->task = (__u64)task;
	w->switches = thread_switches(task);
	t->part.kind = PART_THREAD;
	t->part.id = s->header.part.id;
	fill_thread(t, task, w->level, w->own_level);
	if (t->flags & THREAD_EXITS)
		return 0;
	regs = (void *)((__u64)BPF_CORE_READ(task, stack) + w->regs_at);
	if (c->aarch64) {
		fill_system_call(t, regs);
		failed = bpf_probe_read_kernel(words, ARM64_REGS_BYTES, regs);
		t->regs_bytes = ARM64_REGS_BYTES;
	} else {
		failed = bpf_probe_read_kernel(words, X86_REGS_BYTES, regs);
		t->regs_bytes = X86_REGS_BYTES;
	}
	if (failed)
		t->regs_bytes = 0;
	else
		fill_lock(&s->header, t, words, c->aarch64);
	sp = thread_sp(words, c->aarch64);
	if (failed || sp <= RED_ZONE || (t->flags & THREAD_RUNS))
		return 0;
	w->address = sp - RED_ZONE;
	w->end = shown_until(&s->header, w->address, w->address + c->thread_stack_bytes);
	return 0;
}

/* Sends the current thread with one page of its stack, or what is left of the window;
 * nonzero at its end. */
static __always_inline int thread_page(void *ctx, struct scratch *s)
{
	struct thread_walk *w = &s->threads;
	struct event_thread *t = (struct event_thread *)s->out;
	__u64 address = w->address, bytes = 0, at = sizeof(*t) + t->regs_bytes;

	if (address < w->end) {
		bytes = PAGE_BYTES - (address & (PAGE_BYTES - 1));
		if (bytes > w->end - address)
			bytes = w->end - address;
		w->address = address + bytes;
		t->address = address;
		keep(at);
		at &= HEAD_MASK;
		/* A page that was never touched: go on. */
		if (bpf_probe_read_user(s->out + at, bounded(bytes, PAGE_BYTES), (void *)address))
			bytes = 0;
	}
	if (!bytes && (w->begun || w->address < w->end))
		return w->address >= w->end;
	if (!(t->flags & (THREAD_RUNS | THREAD_EXITS)) &&
	    thread_has_run((void *)w->task, w->switches)) {
		w->end = 0;
		if (w->begun)
			return 1;
		t->flags |= THREAD_RUNS;
		t->regs_bytes = 0;
		at = sizeof(*t);
		bytes = 0;
	}
	bytes += at;
	t->part.size = bytes;
	if (bytes > w->room) {
		s->end.lost |= LOST_THREADS;
		w->room = 0;
		w->end = 0;
		return 1;
	}
	w->room -= bytes;
	if (send(ctx, s, s->out, bounded(bytes, 2 * PAGE_BYTES), LOST_THREADS))
		w->end = 0;
	w->begun = 1;
	/* What follows is a part without registers. */
	t->regs_bytes = 0;
	return w->address >= w->end;
}

static __always_inline int send_threads(void *ctx, struct scratch *s, struct chain_config *c)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 bytes;

	if (!has_thread_list())
		s->end.lost |= LOST_THREADS_FIELDS;
	if (has_thread_list()) {
		if (!s->threads.signal)
			threads_begin(s, c, task);
		for (;;) {
			if (s->threads.address >= s->threads.end) {
				s->threads.end = 0;
				if (thread_begin(s, c))
					goto ended;
			}
			for (;;) {
				if (thread_page(ctx, s))
					break;
				end_round(THREAD_PAGES, next);
			}
next:
			end_round(0, more);
		}
more:
		if (go_on(ctx, s, c, STEP_THREADS))
			return SEEN;
		return finish(ctx, s, c);
	}
ended:
	s->end.lost &= ~LOST_THREADS_CALLS;
	bytes = own_lock(&s->header, (struct event_stack *)s->out, c->aarch64);
	if (bytes)
		send(ctx, s, s->out, bounded(bytes, 64), LOST_THREADS);
	return finish(ctx, s, c);
}

#endif
