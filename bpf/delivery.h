/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * One delivery of a signal, in both capture programs: what is known about it before a
 * record begins, the last handled fault of the thread, and the place at which handled
 * faults are counted.
 */
#ifndef SEGFAULT_DELIVERY_H
#define SEGFAULT_DELIVERY_H

#include "fold.h"
#include "task.h"

/* What is known about a delivery before anything is decided. */
struct glance {
	__s32 signal;
	__s32 code;
	__u64 siginfo;
	__u64 siginfo_more[2];
	__u64 handler;
	__u64 handler_flags;
	__u64 repeats;
	__u32 flags;		/* enum header_flags */
	__u32 pad;
};

/* The last handled fault of each thread, by the thread's number. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct event_fault);
} segfault_first SEC(".maps");

/*
 * Keeps a fault that a handler is about to take: if that handler fails, or raises the
 * signal again, the fatal delivery that follows does not have the address any more.
 */
static __always_inline void remember_fault(struct glance *g, struct task_struct *task, __u64 pc,
					   __u64 now_ns)
{
	struct event_fault fault = {};
	__u32 tid = bpf_get_current_pid_tgid();

	if (g->code <= 0 || g->handler <= SIG_IGN)
		return;
	fault.address = g->siginfo;
	fault.pc = pc;
	read_trap(task, &fault.thread_address, &fault.error_code, &fault.trap);
	fault.boot_ns = now_ns;
	fault.identity = thread_identity(task);
	fault.signal = g->signal;
	fault.code = g->code;
	bpf_map_update_elem(&segfault_first, &tid, &fault, BPF_ANY);
}

/* Moves the remembered fault of this thread into the header of a fatal delivery. */
static __always_inline void recall_fault(struct event_header *h, struct task_struct *task)
{
	__u32 tid = h->host_tid;
	struct event_fault *fault = bpf_map_lookup_elem(&segfault_first, &tid);

	if (!fault)
		return;
	h->first = *fault;
	/* It belongs to an earlier thread with this number, or was overwritten meanwhile. */
	if (h->first.identity != thread_identity(task))
		return;
	h->flags |= HEADER_FIRST_FAULT;
	bpf_map_delete_elem(&segfault_first, &tid);
}

/* The place at which handled faults are counted: see fold.h. */
static __always_inline struct fold_key fold_key(struct glance *g, __u64 pc)
{
	return (struct fold_key){
		.pc = pc,
		.pid = bpf_get_current_pid_tgid() >> 32,
		.signal = g->signal,
		.code = g->code,
	};
}

/* Begins a record: its number, and what the glance has. */
static __always_inline void start_header(struct event_header *h, struct glance *g, __u64 number,
					 __u64 now_ns)
{
	h->part.kind = PART_HEADER;
	h->part.size = sizeof(*h);
	h->part.id = (__u64)bpf_get_smp_processor_id() << 48 | number;
	h->flags = g->flags;
	h->boot_ns = now_ns;
	h->siginfo = g->siginfo;
	h->siginfo_more[0] = g->siginfo_more[0];
	h->siginfo_more[1] = g->siginfo_more[1];
	h->handler = g->handler;
	h->handler_flags = g->handler_flags;
	h->repeats = g->repeats;
	h->signal = g->signal;
	h->code = g->code;
}

#endif
