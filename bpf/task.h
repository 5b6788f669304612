/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * What a task_struct says, as far as no setting decides how it is read.
 */
#ifndef SEGFAULT_TASK_H
#define SEGFAULT_TASK_H

#include "hidden.h"

#define FIRST_PID_NS 0xeffffffc	/* PROC_PID_INIT_INO, include/linux/proc_ns.h */
#define X86_REGS_BYTES 168	/* all of pt_regs: what follows is not the task's */
#define ARM64_REGS_BYTES 272	/* user_pt_regs, where pt_regs begins */
#define CODE_BEFORE 16		/* bytes of code ahead of the pc */
#define MEMORY_BYTES 128	/* around each register, with --memory */

/* The size of a kernel stack: as usual, or as measured. */
static __always_inline __u64 kernel_stack_bytes(__u64 usual)
{
	__u64 least = bpf_core_field_exists(((struct task_struct *)0)->kasan_depth) ? 32768 : 16384;

	return usual > least ? usual : least;
}

#define SIG_IGN 1	/* a handler above this is a function */

/* What the processor said about the thread's last fault, of whichever age. */
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

/* The number of `pid` in the namespace `level` levels down, and that namespace. */
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

/* Tells a thread from another that gets its number, and from itself after it
 * has executed another program. */
static __always_inline __u64 thread_identity(struct task_struct *task)
{
	return thread_start(task) ^ (__u64)read_if_there(task, mm);
}

/* Code around the pc: a whole instruction even where it crosses into a page
 * that is there, and what stands before it. */
static __always_inline void fill_code(struct event_header *h, __u64 pc)
{
	__u64 bytes = PAGE_BYTES - (pc & (PAGE_BYTES - 1)), start = pc - CODE_BEFORE;

	/* What reads all memory must not read the kernel's. */
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
 * The bytes around an address that may be shown, and in its own page if the next
 * ones are not there. Zero if none.
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
	/* What ends before it lies around nothing. */
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
