/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Reads of a task_struct that depend on no setting: both capture programs use them.
 */
#ifndef SEGFAULT_TASK_H
#define SEGFAULT_TASK_H

#include "hidden.h"

#define FIRST_PID_NS 0xeffffffc	/* PROC_PID_INIT_INO, include/linux/proc_ns.h */
#define X86_REGS_BYTES 168	/* all of pt_regs; FRED adds data after it, see docs/kernels.md */
#define ARM64_REGS_BYTES 272	/* user_pt_regs, where pt_regs begins */
#define CODE_BEFORE 16		/* bytes of code ahead of the pc */
#define MEMORY_BYTES 128	/* around each register, with --memory */

/* The size of a kernel stack: `usual`, but at least 16 KB, and with KASAN 32 KB. */
static __always_inline __u64 kernel_stack_bytes(__u64 usual)
{
	__u64 least = bpf_core_field_exists(((struct task_struct *)0)->kasan_depth) ? 32768 : 16384;

	return usual > least ? usual : least;
}

#define SIG_IGN 1	/* a handler above this is a function */

/* What the processor reported about the thread's last fault, however long ago it was. */
static __always_inline void read_trap(struct task_struct *task, __u64 *address, __u64 *error_code,
				      __u64 *trap)
{
	if (bpf_core_field_exists(task->thread.cr2)) {
		*address = BPF_CORE_READ(task, thread.cr2);
		*error_code = BPF_CORE_READ(task, thread.error_code);
		*trap = BPF_CORE_READ(task, thread.trap_nr);
	}
	if (bpf_core_field_exists(task->thread.fault_address)) {
		*address = BPF_CORE_READ(task, thread.fault_address);
		*error_code = BPF_CORE_READ(task, thread.fault_code);
	}
}

static __always_inline struct pid *pid_of(struct task_struct *task)
{
	struct task_struct___before_4_19 *older = (void *)task;
	struct pid *pid = 0;

	if (bpf_core_field_exists(task->thread_pid))
		pid = BPF_CORE_READ(task, thread_pid);
	if (bpf_core_field_exists(older->pids))
		pid = BPF_CORE_READ(older, pids[0].pid);
	return pid;
}

/* The number of `pid` in the namespace that is `level` levels down. */
static __always_inline __u32 number_at(struct pid *pid, __u32 level)
{
	__s32 nr = 0;

	read_kernel(nr, (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			level * bpf_core_type_size(struct upid) +
			bpf_core_field_offset(struct upid, nr));
	return nr;
}

/* The same, and that namespace. */
static __always_inline __u32 pid_at(struct pid *pid, __u32 level, __u32 *ns_inode)
{
	const void *upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			   level * bpf_core_type_size(struct upid);
	struct pid_namespace *ns = 0;
	__s32 nr = 0;

	read_kernel(nr, upid + bpf_core_field_offset(struct upid, nr));
	read_kernel(ns, upid + bpf_core_field_offset(struct upid, ns));
	*ns_inode = BPF_CORE_READ(ns, ns.inum);
	return nr;
}

static __always_inline __u64 thread_start(struct task_struct *task)
{
	struct task_struct___before_5_5 *older = (void *)task;
	__u64 start = 0;

	if (bpf_core_field_exists(task->start_boottime))
		start = BPF_CORE_READ(task, start_boottime);
	if (bpf_core_field_exists(older->real_start_time))
		start = BPF_CORE_READ(older, real_start_time);
	return start;
}

/* Distinguishes a thread from a later one with the same number, and from itself after an
 * exec(2). */
static __always_inline __u64 thread_identity(struct task_struct *task)
{
	return thread_start(task) ^ (__u64)read_if_there(task, mm);
}

/* Reads the code around the pc: bytes before it, and the whole instruction, even if it
 * reaches into the next page and that page is in memory. */
static __always_inline void fill_code(struct event_header *h, __u64 pc)
{
	__u64 bytes = PAGE_BYTES - (pc & (PAGE_BYTES - 1)), start = pc - CODE_BEFORE;

	/* The helper of old kernels reads all memory, but must not read the kernel's here. */
	if ((__s64)pc < 0)
		return;
	h->code_address = start;
	if (shown_until(h, start, start + EVENT_CODE) == start + EVENT_CODE &&
	    !bpf_probe_read_user(h->code_at, EVENT_CODE, (void *)start)) {
		h->code_bytes = EVENT_CODE;
		return;
	}
	h->code_address = pc;
	if (bytes > EVENT_CODE)
		bytes = EVENT_CODE;
	bytes = shown_until(h, pc, pc + bytes) - pc;
	if (!bytes)
		return;
	bytes = bounded(bytes, EVENT_CODE);
	if (!bpf_probe_read_user(h->code_at, bytes, (void *)pc))
		h->code_bytes = bytes;
}

/*
 * The bytes around an address that may be shown; with `in_page`, only those in its page,
 * for when the next ones are not in memory. The result is zero if there are none.
 */
static __always_inline int memory_around(struct event_header *h, __u64 address, int in_page,
					 __u64 *start, __u64 *end)
{
	__u64 page = address & ~(PAGE_BYTES - 1ull);

	if (address < PAGE_BYTES || (__s64)address < 0)
		return 0;
	*start = (address & ~15ull) - MEMORY_BYTES / 2;
	*end = *start + MEMORY_BYTES;
	if (in_page && *start < page)
		*start = page;
	if (in_page && *end > page + PAGE_BYTES)
		*end = page + PAGE_BYTES;
	*start = shown_from(h, *start, address);
	*end = shown_until(h, *start, *end);
	/* The bytes must reach past the address itself. */
	return *end > *start && address < *end;
}

static __always_inline void fill_memory_layout(struct event_header *h, struct mm_struct *mm)
{
	h->start_stack = read_if_there(mm, start_stack);
	h->start_brk = read_if_there(mm, start_brk);
	h->brk = read_if_there(mm, brk);
	h->arg_start = read_if_there(mm, arg_start);
	h->arg_end = read_if_there(mm, arg_end);
	h->env_start = read_if_there(mm, env_start);
	h->env_end = read_if_there(mm, env_end);
	h->vdso = (__u64)read_if_there(mm, context.vdso);
	h->map_count = read_if_there(mm, map_count);
}

#endif
