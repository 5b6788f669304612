/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Whether a process dies of a fault that its own handler took. If it ends within a second
 * after such a fault, its end is reported. As long as there was no such fault, the end of
 * a thread costs one comparison.
 */
#ifndef SEGFAULT_FOLLOW_H
#define SEGFAULT_FOLLOW_H

#include "task.h"

#define FOLLOWED_NS 1000000000ull

struct followed {
	__u64 fault_ns;		/* the last fault, by the clock of boot_ns */
	__u64 start_ns;		/* start of the process: this and its number identify it */
};

/* The key is the process's number in the first pid namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct followed);
} segfault_followed SEC(".maps");

/* Called when a handler is about to take a fault. Returns the time until which ends of
 * processes matter. */
static __always_inline __u64 follow(struct task_struct *task, __u64 now_ns)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct followed new = { .fault_ns = now_ns };
	struct task_struct *leader = read_if_there(task, group_leader);
	struct followed *known = bpf_map_lookup_elem(&segfault_followed, &pid);

	new.start_ns = thread_start(leader);
	if (known && known->start_ns == new.start_ns)
		known->fault_ns = now_ns;
	else
		bpf_map_update_elem(&segfault_followed, &pid, &new, BPF_ANY);
	return now_ns + FOLLOWED_NS;
}

/*
 * Fills in how the current process ends, if this is its last thread and the process is
 * followed. If the offset of task->signal is not known, the end of the first thread counts
 * as the end of the process, and the status is not known.
 */
static __always_inline int fill_exit(struct event_exit *e, struct task_struct *task, __u64 now_ns)
{
	__u64 ids = bpf_get_current_pid_tgid();
	__u32 pid = ids >> 32, others = pid != (__u32)ids, status = 0;
	struct followed *known = bpf_map_lookup_elem(&segfault_followed, &pid);
	__u64 fault_ns;

	if (!known)
		return 0;
	if (bpf_core_field_exists(task->signal)) {
		others = BPF_CORE_READ(task, signal, live.counter);
		status = BPF_CORE_READ(task, signal, group_exit_code);
	}
	if (others)
		return 0;
	if (bpf_core_field_exists(task->exit_code)) {
		__u32 own = BPF_CORE_READ(task, group_leader, exit_code);

		status = status ? status : own;
		e->flags = EXIT_STATUS;
	}
	e->part.kind = PART_EXIT;
	e->part.size = sizeof(*e);
	e->start_ns = known->start_ns;
	e->host_pid = pid;
	e->status = status;
	fault_ns = known->fault_ns;
	bpf_map_delete_elem(&segfault_followed, &pid);
	return now_ns - fault_ns <= FOLLOWED_NS;
}

#endif
