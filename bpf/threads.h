/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The other threads of the process (--threads), each with its registers and a window of its
 * stack, in the order in which they were created. They share the memory of the thread that
 * crashes, so it is read as that thread's own. hidden.h says what is never sent.
 *
 * The tracepoint is passed with the lock held that protects the list. The walk does not
 * rely on that: an entry counts if its process is ours, and the number of steps is limited.
 */
#ifndef SEGFAULT_THREADS_H
#define SEGFAULT_THREADS_H

#include "identity.h"
#include "scratch.h"

#define MAX_THREAD_PAGES 17	/* of the largest window, which need not begin at a page */

/*
 * Sends what was gathered of the current thread. If the thread has run since it was looked
 * at, its registers and its stack may be of different moments: they are left out, and the
 * window ends.
 */
separate int send_thread_part(void)
{
	struct scratch *s = scratch();
	struct event_thread *t;
	struct task_struct *task;

	if (!max_threads || !s)
		return 0;
	t = (struct event_thread *)s->out;
	task = (struct task_struct *)s->threads.task;
	if (!(t->flags & (THREAD_RUNS | THREAD_EXITS)) &&
	    thread_has_run(task, s->threads.switches)) {
		s->threads.end = 0;
		s->out_bytes = sizeof(*t);
		if (s->threads.begun)
			return 0;
		t->flags |= THREAD_RUNS;
		t->regs_bytes = 0;
	}
	s->threads.begun = 1;
	send_out(PART_THREAD, LOST_THREADS);
	/* What follows is a part without registers. */
	t->regs_bytes = 0;
	s->out_bytes = sizeof(*t);
	if (s->end.lost & LOST_THREADS)
		s->threads.end = 0;
	return 0;
}

/* Gathers one page of the current thread's stack, or what is left of the window. */
static long thread_page_callback(__u32 page, void *unused)
{
	struct scratch *s = scratch();
	struct event_thread *t;
	__u64 address, bytes, at;

	if (!s)
		return 1;
	t = (struct event_thread *)s->out;
	address = s->threads.address;
	if (address >= s->threads.end)
		return 1;
	bytes = PAGE_BYTES - (address & (PAGE_BYTES - 1));
	if (bytes > s->threads.end - address)
		bytes = s->threads.end - address;
	keep(bytes);
	if (bytes > PAGE_BYTES)
		return 1;
	s->threads.address = address + bytes;
	at = s->out_bytes;
	/* A huge local may have pages that were never touched, which cannot be read: go on. */
	if (bpf_probe_read_user(&s->out[at & (OUT_BYTES - 1)], bytes, (void *)address)) {
		if (at > sizeof(*t) + t->regs_bytes)
			send_thread_part();
		return 0;
	}
	if (at == sizeof(*t) + t->regs_bytes)
		t->address = address;
	at += bytes;
	s->out_bytes = at;
	if (at > OUT_BYTES - PAGE_BYTES)
		send_thread_part();
	return 0;
}

/* Sends one thread. */
separate int send_thread(__u64 address)
{
	struct scratch *s = scratch();
	struct task_struct *task = (struct task_struct *)address;
	struct event_thread *t;
	const void *regs;
	__u64 bytes, sp;

	if (!max_threads || !s)
		return 0;
	t = (struct event_thread *)s->out;
	s->threads.task = address;
	s->threads.switches = thread_switches(task);
	s->threads.begun = 0;
	fill_thread(t, task, s->threads.level, s->threads.own_level);
	s->out_bytes = sizeof(*t);
	if (t->flags & THREAD_EXITS) {
		send_thread_part();
		return 0;
	}
	regs = BPF_CORE_READ(task, stack) + s->threads.regs_at;
	bytes = is_x86() ? X86_REGS_BYTES : ARM64_REGS_BYTES;
	if (!is_x86())
		fill_system_call(t, regs);
	if (bpf_probe_read_kernel(s->out + sizeof(*t), bytes, regs)) {
		send_thread_part();
		return 0;
	}
	t->regs_bytes = bytes;
	s->out_bytes = sizeof(*t) + bytes;
	fill_lock(&s->header, t, (const __u64 *)(s->out + sizeof(*t)), !is_x86());
	sp = thread_sp((const __u64 *)(s->out + sizeof(*t)), !is_x86());
	if (thread_stack_bytes && sp > RED_ZONE && !(t->flags & THREAD_RUNS)) {
		sp -= RED_ZONE;
		s->threads.address = sp;
		s->threads.end = shown_until(&s->header, sp, sp + thread_stack_bytes);
		bpf_loop(MAX_THREAD_PAGES, thread_page_callback, 0, 0);
	}
	if (!s->threads.begun || s->out_bytes > sizeof(*t))
		send_thread_part();
	return 0;
}

static long thread_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();
	struct task_struct *task;
	__u64 node;

	if (!s)
		return 1;
	node = s->threads.next;
	if (node == s->threads.head || (s->end.lost & LOST_THREADS))
		return 1;
	task = (struct task_struct *)(node - bpf_core_field_offset(struct task_struct, thread_node));
	if ((__u64)BPF_CORE_READ(task, signal) != s->threads.signal) {
		s->end.lost |= LOST_THREADS_TORN;
		return 1;
	}
	s->threads.next = (__u64)BPF_CORE_READ(task, thread_node.next);
	if ((__u64)task == s->threads.crashed)
		return 0;
	if (s->threads.sent >= max_threads) {
		s->end.lost |= LOST_THREADS_CUT;
		return 1;
	}
	s->threads.sent++;
	send_thread((__u64)task);
	return 0;
}

/* Sends them, if the signal ends the process. */
static __always_inline void send_threads(struct scratch *s, struct task_struct *task,
					 const void *regs)
{
	if (!max_threads || s->header.handler)
		return;
	if (!has_thread_list()) {
		s->end.lost |= LOST_THREADS_FIELDS;
		return;
	}
	if (has_thread_list()) {
		struct signal_struct *signal = BPF_CORE_READ(task, signal);
		struct pid *pid = BPF_CORE_READ(task, thread_pid);

		s->threads.signal = (__u64)signal;
		s->threads.head = (__u64)signal + bpf_core_field_offset(struct signal_struct, thread_head);
		s->threads.next = (__u64)BPF_CORE_READ(signal, thread_head.next);
		s->threads.crashed = (__u64)task;
		/* By way of memory, because the verifier subtracts nothing from this pointer. */
		*(volatile __u64 *)&s->threads.regs_at = (__u64)regs;
		s->threads.regs_at -= (__u64)BPF_CORE_READ(task, stack);
		s->threads.level = BPF_CORE_READ(pid, level) & (2 * MAX_PID_NS_LEVEL - 1);
		s->threads.own_level = own_level((__u64)pid);
		s->threads.sent = 0;
		s->end.threads = read_if_there(signal, nr_threads);
		bpf_loop(max_threads + 2, thread_callback, 0, 0);
		s->out_bytes = own_lock(&s->header, (struct event_stack *)s->out, !is_x86());
		if (s->out_bytes)
			send_out(PART_MEMORY, LOST_THREADS);
	}
}

#endif
