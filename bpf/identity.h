/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * Which process crashed: its numbers, names and registers; and whether it passes the
 * filters.
 */
#ifndef SEGFAULT_IDENTITY_H
#define SEGFAULT_IDENTITY_H

#include "scratch.h"
#include "task.h"

#define MAX_PID_NS_LEVEL 32	/* include/linux/pid_namespace.h: the deepest */

#define is_x86() bpf_core_field_exists(((struct pt_regs___x86 *)0)->ip)

/*
 * The address at which the kernel saved the user registers of the task. The registers of
 * the program's own context would be the kernel's.
 */
static __always_inline const void *user_regs(struct task_struct *task)
{
	if (has_helper(task_pt_regs))
		return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return BPF_CORE_READ(task, stack) + kernel_stack_bytes(thread_size) -
	       bpf_core_type_size(struct pt_regs___size);
}

static __always_inline __u64 regs_pc(const void *regs)
{
	__u64 pc = 0;

	if (is_x86())
		read_kernel(pc, regs + bpf_core_field_offset(struct pt_regs___x86, ip));
	else
		read_kernel(pc, regs + bpf_core_field_offset(struct pt_regs___arm64, pc));
	return pc;
}

/* One plus the level of the tool's pid namespace, if `pid` has a number there; else 0. */
separate int own_level(__u64 address)
{
	struct pid *pid = (void *)address;
	__u32 deepest, ns_inode;

	if (own_pid_ns == FIRST_PID_NS)
		return 1;
	deepest = BPF_CORE_READ(pid, level);
	for (__u32 level = 0; level <= MAX_PID_NS_LEVEL; level++) {
		if (level > deepest)
			break;
		pid_at(pid, level, &ns_inode);
		if (ns_inode == own_pid_ns)
			return level + 1;
	}
	return 0;
}

/* The number of `pid` in the tool's pid namespace, or 0. */
separate int pid_for_us(__u64 address)
{
	__u32 level = own_level(address);

	return level ? number_at((struct pid *)address, level - 1) : 0;
}

static __always_inline void fill_identity(struct event_header *h, struct task_struct *task,
					  struct task_struct *leader)
{
	__u64 ids = bpf_get_current_pid_tgid();
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	struct pid *tid = BPF_CORE_READ(task, thread_pid);
	struct pid *parent = BPF_CORE_READ(task, real_parent, group_leader, thread_pid);
	__u32 level = BPF_CORE_READ(tid, level) & (2 * MAX_PID_NS_LEVEL - 1), unused;

	h->host_pid = ids >> 32;
	h->host_tid = ids;
	h->pid = pid_for_us((__u64)pid);
	h->tid = pid_for_us((__u64)tid);
	h->ppid = pid_for_us((__u64)parent);
	h->ns_pid = pid_at(pid, level, &unused);
	h->ns_tid = pid_at(tid, level, &h->pid_ns);
	h->uid = bpf_get_current_uid_gid();
	h->mnt_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	/* Without CONFIG_CGROUPS the kernel lacks both the field and the helper. */
	if (bpf_core_field_exists(task->cgroups))
		h->cgroup_id = bpf_get_current_cgroup_id();
	bpf_probe_read_kernel_str(h->comm, EVENT_NAME, leader->comm);
	bpf_get_current_comm(h->thread, EVENT_NAME);
}

static __always_inline void fill_registers(struct event_header *h, const void *regs,
					   struct task_struct *task)
{
	long failed;

	if (is_x86()) {
		failed = bpf_probe_read_kernel(h->regs, X86_REGS_BYTES, regs);
		h->fs_base = read_if_there(task, thread.fsbase);
		h->gs_base = read_if_there(task, thread.gsbase);
	} else {
		failed = bpf_probe_read_kernel(h->regs, ARM64_REGS_BYTES, regs);
		h->flags |= HEADER_AARCH64;
	}
	if (failed)
		return;
	h->flags |= HEADER_REGISTERS;
	fill_code(h, regs_pc(regs));
}

/* -p, and never the tool itself. */
static __always_inline int passes_filters(struct task_struct *task)
{
	__u32 pid = pid_for_us((__u64)BPF_CORE_READ(task, group_leader, thread_pid));

	if (pid && pid == own_pid)
		return 0;
	if (only_pid && pid != only_pid)
		return 0;
	return 1;
}

/*
 * One byte of the search for the wanted name in the string in out: the Shift-And
 * algorithm (Baeza-Yates and Gonnet, 1992). Bit i of name_found says that the
 * first i + 1 bytes of the name end here.
 */
static long name_callback(__u32 at, void *unused)
{
	struct scratch *s = scratch();
	__u64 last = 1ull << ((name_bytes - 1) & 63);
	__u8 byte;

	if (!s)
		return 1;
	byte = s->out[at & (NAME_MAX_BYTES - 1)];
	s->name_found = (s->name_found << 1 | 1) & name_masks[byte];
	return !byte || (s->name_found & last);
}

separate int out_holds_name(void)
{
	struct scratch *s = scratch();

	if (!s)
		return 0;
	s->name_found = 0;
	bpf_loop(NAME_MAX_BYTES, name_callback, 0, 0);
	return s->name_found >> ((name_bytes - 1) & 63) & 1;
}

#define MAX_GENERATIONS 256

/* One step from a process to its parent. */
static long parent_callback(__u32 step, void *unused)
{
	struct scratch *s = scratch();
	struct task_struct *process;

	if (!s)
		return 1;
	process = (void *)s->above;
	process = BPF_CORE_READ(process, real_parent, group_leader);
	s->above = (__u64)process;
	if (!process)
		return 1;
	s->is_below = own_pid == (__u32)pid_for_us((__u64)BPF_CORE_READ(process, thread_pid));
	return s->is_below;
}

/* A process whose parent has ended gets the tool for a parent, which asked for that. */
static __always_inline int passes_tree(struct scratch *s, struct task_struct *task)
{
	if (!only_below)
		return 1;
	s->above = (__u64)task;
	s->is_below = 0;
	bpf_loop(MAX_GENERATIONS, parent_callback, 0, 0);
	return s->is_below;
}

/* -n: the process's name, the thread's, or the base name of its executable. */
static __always_inline int passes_name(struct scratch *s, struct task_struct *task)
{
	struct task_struct *leader;
	struct file *exe;

	if (!name_bytes)
		return 1;
	leader = BPF_CORE_READ(task, group_leader);
	bpf_probe_read_kernel_str(s->out, EVENT_NAME, leader->comm);
	if (out_holds_name())
		return 1;
	bpf_get_current_comm(s->out, EVENT_NAME);
	if (out_holds_name())
		return 1;
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (bpf_probe_read_kernel_str(s->out, NAME_MAX_BYTES,
				      BPF_CORE_READ(exe, f_path.dentry, d_name.name)) <= 0)
		return 0;
	return out_holds_name();
}

#endif
