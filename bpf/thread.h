/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Another thread of the process that crashes, as both capture programs read it. It may run
 * meanwhile. So nothing that was copied of it counts until a look at its scheduling shows
 * that it has not.
 */
#ifndef SEGFAULT_THREAD_H
#define SEGFAULT_THREAD_H

#include "frame_chain.h"
#include "task.h"

#define LOCK_BYTES 16
#define PF_EXITING 4	/* include/linux/sched.h */
#define FUTEX_X86 202	/* the numbers of futex(2) */
#define FUTEX_ARM64 98
#define FUTEX_NARROW 240	/* of a 32-bit task, */
#define FUTEX_TIME64 422	/* with times of 64 bits */
#define COMPAT_MODE 0x10	/* PSR_MODE32_BIT */
#define REGS_ARM64_STACK 31	/* words into user_pt_regs */
#define REGS_ARM64_MODE 33
#define REGS_ARM_STACK 13	/* of a 32-bit task */
#define REGS_ARM64_NUMBER 8	/* in which user code passes the number of a call */
#define REGS_X86_STACK 19	/* words into pt_regs */
#define REGS_X86_NUMBER 15
#define REGS_X86_DI 14
#define REGS_X86_BX 5

/* The state of a walk over the other threads, and of the current one. */
struct thread_walk {
	__u64 signal;		/* of the process */
	__u64 head;		/* of the list, */
	__u64 next;		/* and the next entry */
	__u64 crashed;		/* the thread that crashes */
	__u64 regs_at;		/* offset of the user registers in a kernel stack */
	__u64 task;		/* the current thread, */
	__u64 switches;		/* how often it has left a CPU, */
	__u64 address;		/* and what is left of the window of its stack */
	__u64 end;
	__u64 room;		/* chain: bytes that may still be sent of all */
	__u32 begun;		/* a part of it was sent */
	__u32 sent;		/* threads */
	__u32 level;		/* of the pid namespace: see fill_thread() */
	__u32 own_level;
};

/* Whether the kernel's list of the threads of a process is known. */
static __always_inline int has_thread_list(void)
{
	return bpf_core_field_exists(((struct task_struct *)0)->signal) &&
	       bpf_core_field_exists(((struct task_struct *)0)->stack) &&
	       bpf_core_field_exists(((struct task_struct *)0)->thread_node) &&
	       bpf_core_field_exists(((struct signal_struct *)0)->thread_head);
}

/* How often a thread has left a CPU. */
static __always_inline __u64 thread_switches(struct task_struct *task)
{
	return read_if_there(task, nvcsw) + read_if_there(task, nivcsw);
}

static __always_inline int thread_runs(struct task_struct *task)
{
	return read_if_there(task, on_cpu) != 0;
}

/* An exited thread's kernel stack may be another's already. */
static __always_inline int thread_exits(struct task_struct *task)
{
	return (read_if_there(task, flags) & PF_EXITING) || read_if_there(task, exit_state);
}

/* Whether a thread runs, or has run since its switches were counted. */
static __always_inline int thread_has_run(struct task_struct *task, __u64 switches)
{
	return thread_runs(task) || thread_exits(task) || thread_switches(task) != switches;
}

static __always_inline __u32 thread_state(struct task_struct *task)
{
	struct task_struct___before_5_14 *older = (void *)task;
	__u32 state = 0;

	if (bpf_core_field_exists(task->__state))
		state = BPF_CORE_READ(task, __state);
	if (bpf_core_field_exists(older->state))
		state = BPF_CORE_READ(older, state);
	return state;
}

/*
 * Everything but its registers and its stack. `level` is how deep the process's pid
 * namespace is, and `own` the level of the tool's plus one, or 0 if it has none there.
 */
static __always_inline void fill_thread(struct event_thread *t, struct task_struct *task,
					__u32 level, __u32 own)
{
	struct pid *pid = pid_of(task);

	t->address = 0;
	t->first_argument = 0;
	t->host_tid = 0;
	t->ns_tid = 0;
	t->tid = 0;
	if (bpf_core_field_exists(pid->numbers)) {
		t->host_tid = number_at(pid, 0);
		t->ns_tid = number_at(pid, level);
		if (own)
			t->tid = number_at(pid, own - 1);
	}
	t->lock[0] = 0;
	t->lock[1] = 0;
	t->system_call = -1;
	t->state = thread_state(task);
	t->regs_bytes = 0;
	t->flags = 0;
	if (thread_runs(task))
		t->flags |= THREAD_RUNS;
	if (thread_exits(task))
		t->flags |= THREAD_EXITS;
	if (bpf_core_field_exists(task->comm))
		bpf_probe_read_kernel(t->comm, EVENT_NAME, task->comm);
}

/* The system call of arm64, which is beside the registers at `regs`. */
static __always_inline void fill_system_call(struct event_thread *t, const void *regs)
{
	t->flags |= THREAD_AARCH64;
	if (bpf_core_field_exists(((struct pt_regs___size *)0)->orig_x0))
		read_kernel(t->first_argument,
			    regs + bpf_core_field_offset(struct pt_regs___size, orig_x0));
	if (bpf_core_field_exists(((struct pt_regs___size *)0)->syscallno))
		read_kernel(t->system_call,
			    regs + bpf_core_field_offset(struct pt_regs___size, syscallno));
}

/* 1 if registers of arm64 that were copied are those of a 32-bit task, else 0. */
static __always_inline __u64 is_arm(const __u64 *words)
{
	return words[REGS_ARM64_MODE] / COMPAT_MODE & 1;
}

/* The stack pointer among registers that were copied; without a branch, after which the
 * verifier would follow all later code once more. */
static __always_inline __u64 thread_sp(const __u64 *words, int aarch64)
{
	__u64 narrow;

	if (!aarch64)
		return words[REGS_X86_STACK];
	narrow = is_arm(words);
	return (words[REGS_ARM64_STACK] & (narrow - 1)) | ((__u32)words[REGS_ARM_STACK] & -narrow);
}

/* 1 if two numbers are equal, else 0, without a branch. */
static __always_inline __u64 is_equal(__u64 one, __u64 other)
{
	__u64 differs = one ^ other;

	keep(differs);
	return ((differs | -differs) >> 63) ^ 1;
}

/*
 * The address at which a thread with these registers waits, if it is in futex(2); else 0.
 * `number` and `first` are the call's on arm64. After a branch the verifier would follow all
 * later code once more.
 */
static __always_inline __u64 lock_address(const __u64 *words, int aarch64, __u64 number, __u64 first)
{
	__u64 narrow, wide = FUTEX_ARM64, is_lock;

	if (aarch64) {
		narrow = is_arm(words);
	} else {
		narrow = is_equal(words[REGS_X86_CS] & 0xffff, USER_CS_32);
		number = words[REGS_X86_NUMBER];
		first = words[(REGS_X86_DI - (REGS_X86_DI - REGS_X86_BX) * narrow) & 15];
		wide = FUTEX_X86;
	}
	is_lock = (narrow ^ 1) & is_equal(number, wide);
	is_lock |= narrow & (is_equal(number, FUTEX_NARROW) | is_equal(number, FUTEX_TIME64));
	return first & -is_lock & ((narrow - 1) | 0xffffffff);
}

/* Reads the lock that a thread waits for: its owner may be in it. */
static __always_inline void fill_lock(struct event_header *h, struct event_thread *t,
				      const __u64 *words, int aarch64)
{
	__u64 address = lock_address(words, aarch64, t->system_call, t->first_argument);
	__u64 end = address + LOCK_BYTES;

	if (address && shown_until(h, address, end) == end &&
	    !bpf_probe_read_user(t->lock, LOCK_BYTES, (void *)address))
		t->flags |= THREAD_LOCK;
}

/*
 * The same for the thread that crashes, as a PART_MEMORY at `piece`; the result is its size,
 * or 0. On arm64 the kernel has put the first argument back for a restart of the call, and
 * forgotten its number.
 */
static __always_inline __u64 own_lock(struct event_header *h, struct event_stack *piece, int aarch64)
{
	__u64 address = lock_address(h->regs, aarch64, h->regs[REGS_ARM64_NUMBER], h->regs[0]);
	__u64 end = address + LOCK_BYTES;

	if (!address || shown_until(h, address, end) != end ||
	    bpf_probe_read_user(piece + 1, LOCK_BYTES, (void *)address))
		return 0;
	piece->part.kind = PART_MEMORY;
	piece->part.id = h->part.id;
	piece->part.size = sizeof(*piece) + LOCK_BYTES;
	piece->address = address;
	return sizeof(*piece) + LOCK_BYTES;
}

#endif
