/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * One delivery of a signal, in the programs of the chain: which process it belongs to,
 * whether it passes the filters, and the header that a record begins with.
 */
#ifndef SEGFAULT_CHAIN_DELIVERY_H
#define SEGFAULT_CHAIN_DELIVERY_H

#include "chain_stack.h"

#define PID_NS_LEVELS 4		/* looked at for the tool's own */
#define REGS_X86_PC 16		/* words into pt_regs, and into user_pt_regs */
#define REGS_X86_SP 19
#define REGS_ARM64_PC 32
#define SIGINFO_CODE 8		/* bytes into siginfo_t, which user space sees too */
#define SIGINFO_WORDS 16
#define PF_TRAP 14

/*
 * The address at which the kernel saved the user registers of the task: at the top of
 * its kernel stack. If the offset of task->stack is not known, the address of the stack
 * that this program runs on is rounded up, which is right up to 6.12, on x86.
 */
static __always_inline const void *user_regs(struct scratch *s, struct chain_config *c,
					     struct task_struct *task)
{
	__u64 top = 0, from_top = 0;

	if (bpf_core_field_exists(task->stack))
		top = (__u64)BPF_CORE_READ(task, stack) + kernel_stack_bytes(c->thread_size);
	if (!top) {
		asm volatile("*(u64 *)(%0 + %1) = r10"
			     :: "r"(s), "i"(offsetof(struct scratch, frame)) : "memory");
		top = (*(volatile __u64 *)&s->frame | (c->thread_size - 1)) + 1;
	}
	if (bpf_core_type_exists(struct pt_regs___size))
		from_top = bpf_core_type_size(struct pt_regs___size);
	if (bpf_core_type_exists(struct fred_info))
		from_top += 16;
	return (void *)(top - from_top);
}

static __always_inline __u64 read_word(const void *from)
{
	__u64 word = 0;

	read_kernel(word, from);
	return word;
}

/* The number of `pid` in the tool's pid namespace, or 0. */
static __always_inline __u32 pid_for_us(struct chain_config *c, struct pid *pid)
{
	__u32 deepest, level = 0, ns_inode, nr;

	if (!bpf_core_field_exists(pid->numbers))
		return 0;
	deepest = BPF_CORE_READ(pid, level);
	for (;;) {
		nr = pid_at(pid, level, &ns_inode);
		if (ns_inode == c->own_pid_ns)
			return nr;
		if (++level > deepest)
			break;
		end_round(PID_NS_LEVELS, unknown);
	}
unknown:
	return 0;
}

/* -p, and never the tool itself. */
static __always_inline int passes_filters(struct chain_config *c, __u32 pid)
{
	if (pid && pid == c->own_pid)
		return 0;
	if (c->only_pid && pid != c->only_pid)
		return 0;
	return 1;
}

/*
 * -n: the process's name, the thread's, or the base name of its executable, one
 * after the other in out. The search is that of out_holds_name() in identity.h.
 */
static __always_inline int passes_name(struct scratch *s, struct chain_config *c,
				       struct task_struct *task)
{
	__u64 state = 0, found = 0, at = 0;

	if (!c->name_last)
		return 1;
	clear(s->out, MAX_TEXT);
	bpf_get_current_comm(s->out, EVENT_NAME);
	if (bpf_core_field_exists(task->group_leader) && bpf_core_field_exists(task->comm)) {
		struct task_struct *leader = BPF_CORE_READ(task, group_leader);

		bpf_probe_read_str(s->out + EVENT_NAME, EVENT_NAME, leader->comm);
	}
	if (bpf_core_field_exists(task->mm) && bpf_core_field_exists(((struct mm_struct *)0)->exe_file)) {
		struct file *exe = BPF_CORE_READ(task, mm, exe_file);

		bpf_probe_read_str(s->out + 2 * EVENT_NAME, MAX_TEXT - 2 * EVENT_NAME,
				   BPF_CORE_READ(exe, f_path.dentry, d_name.name));
	}
	for (;;) {
		state = (state << 1 | 1) & c->name_masks[s->out[at]];
		found |= state;
		at++;
		end_round(MAX_TEXT, looked);
	}
looked:
	return (found & c->name_last) != 0;
}

static __always_inline __u64 regs_pc(struct chain_config *c, const void *regs)
{
	return read_word(regs + (c->aarch64 ? REGS_ARM64_PC : REGS_X86_PC) * 8);
}

/* Handled faults are no crashes: see fold.h. */
static __always_inline int is_counted_only(struct chain_config *c, struct glance *g, const void *regs)
{
	if (!c->fold_ns || g->handler <= SIG_IGN)
		return 0;
	struct fold_key key = fold_key(g, regs_pc(c, regs));

	return is_folded(&key, bpf_ktime_get_ns(), c->fold_ns, &g->repeats);
}

static __always_inline __u64 cgroup_number(struct task_struct *task)
{
	__u64 id = 0;

	if (bpf_core_field_exists(task->cgroups)) {
		struct kernfs_node *node = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
		struct kernfs_node___before_5_5 *older = (void *)node;

		if (bpf_core_field_exists(node->id))
			id = BPF_CORE_READ(node, id);
		if (bpf_core_field_exists(older->id.id))
			id = BPF_CORE_READ(older, id.id);
	}
	return id;
}

static __always_inline void fill_identity(struct event_header *h, struct chain_config *c,
					  struct task_struct *task, struct task_struct *leader)
{
	__u64 ids = bpf_get_current_pid_tgid();
	struct pid *pid = pid_of(leader), *tid = pid_of(task);
	__u32 unused;

	h->host_pid = ids >> 32;
	h->host_tid = ids;
	h->tid = pid_for_us(c, tid);
	if (bpf_core_field_exists(task->real_parent) && bpf_core_field_exists(task->group_leader))
		h->ppid = pid_for_us(c, pid_of(BPF_CORE_READ(task, real_parent, group_leader)));
	if (bpf_core_field_exists(tid->numbers)) {
		__u32 level = BPF_CORE_READ(tid, level) & 31;

		h->ns_pid = pid_at(pid, level, &unused);
		h->ns_tid = pid_at(tid, level, &h->pid_ns);
	}
	h->uid = bpf_get_current_uid_gid();
	if (bpf_core_field_exists(task->nsproxy))
		h->mnt_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	h->cgroup_id = cgroup_number(task);
	bpf_get_current_comm(h->thread, EVENT_NAME);
	if (bpf_core_field_exists(task->group_leader) && bpf_core_field_exists(task->comm))
		bpf_probe_read_str(h->comm, EVENT_NAME, leader->comm);
	else
		bpf_get_current_comm(h->comm, EVENT_NAME);
}

static __always_inline void fill_registers(struct scratch *s, struct chain_config *c,
					   const void *regs, struct task_struct *task)
{
	struct event_header *h = &s->header;
	__u64 pc;
	long failed;

	if (c->aarch64) {
		failed = bpf_probe_read_kernel(h->regs, ARM64_REGS_BYTES, regs);
		h->flags |= HEADER_AARCH64;
		s->walk.sp = thread_sp(h->regs, 1);
		pc = h->regs[REGS_ARM64_PC];
	} else {
		failed = bpf_probe_read_kernel(h->regs, X86_REGS_BYTES, regs);
		s->walk.sp = h->regs[REGS_X86_SP];
		pc = h->regs[REGS_X86_PC];
	}
	h->fs_base = read_if_there(task, thread.fsbase);
	h->gs_base = read_if_there(task, thread.gsbase);
	if (failed)
		return;
	h->flags |= HEADER_REGISTERS;
	fill_code(h, pc);
}

static __always_inline void fill_header(struct scratch *s, struct chain_config *c,
					struct task_struct *task, const void *regs, __u32 pid)
{
	struct event_header *h = &s->header;
	struct glance *g = &s->glance;
	struct task_struct *leader = read_if_there(task, group_leader);
	struct mm_struct *mm = read_if_there(task, mm);

	start_header(h, g, ++s->count, bpf_ktime_get_ns());
	h->flags |= HEADER_MONOTONIC;
	h->start_ns = thread_start(leader);
	h->pid = pid;
	read_trap(task, &h->thread_address, &h->error_code, &h->trap);
	fill_identity(h, c, task, leader);
	if (g->handler <= SIG_IGN)
		recall_fault(h, task);
	if (mm)
		fill_memory_layout(h, mm);
	else if (bpf_core_field_exists(task->mm))
		h->flags |= HEADER_KERNEL_TASK;
	fill_registers(s, c, regs, task);
}

#endif
