/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The few fields of the kernel's own types that the capture program reads.
 *
 * Only the names and types of the fields matter here. The loader fills in their offsets
 * from the running kernel's BTF (CO-RE). A suffix that begins with three underscores
 * marks the layout that the same type has in other kernels.
 */
#ifndef SEGFAULT_KERNEL_H
#define SEGFAULT_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernel_siginfo {
	int si_signo;
	int si_code;
	union {
		struct {
			void *_addr; /* in 64-bit kernels the first word, whatever the signal */
		} _sigfault;
	} _sifields;
};

struct sigaction {
	void *sa_handler;
	unsigned long sa_flags;
};

struct k_sigaction {
	struct sigaction sa;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct qstr {
	const unsigned char *name;
};

struct hlist_bl_node {
	void *next;
	void **pprev;
};

struct super_block {
	__u32 s_dev;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
	__s64 i_size;
	__s64 i_mtime_sec; /* since 6.11 */
	__u32 i_mtime_nsec;
};

struct inode___before_6_11 {
	struct timespec64 __i_mtime; /* since 6.7 */
};

struct inode___before_6_7 {
	struct timespec64 i_mtime;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct hlist_bl_node d_hash;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
};

/* Since 6.5: a file opened by a file system on top of another. */
struct backing_file {
	struct path user_path;
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct vm_area_struct *vm_next; /* up to 6.0 */
	struct mm_struct *vm_mm;
	unsigned long vm_flags;
	unsigned long vm_pgoff;
	struct file *vm_file;
};

struct maple_tree { /* since 6.1 */
	void *ma_root;
};

struct maple_range_64 {
	unsigned long pivot[15];
	void *slot[16];
};

struct maple_arange_64 {
	unsigned long pivot[9];
	void *slot[10];
};

typedef struct {
	void *vdso;
} mm_context_t;

struct mm_struct {
	struct vm_area_struct *mmap; /* up to 6.0 */
	struct maple_tree mm_mt;
	unsigned long highest_vm_end; /* up to 6.0 */
	int map_count;
	unsigned long start_brk;
	unsigned long brk;
	unsigned long start_stack;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
	mm_context_t context;
};

struct thread_struct {
	/* x86 */
	unsigned long cr2;
	unsigned long trap_nr;
	unsigned long error_code;
	unsigned long fsbase;
	unsigned long gsbase;
	/* arm64 */
	unsigned long fault_address;
	unsigned long fault_code;
};

struct kernfs_node {
	const char *name;
	struct kernfs_node *parent;
	__u64 id;
};

struct kernfs_node___before_5_5 {
	union kernfs_node_id {
		__u64 id;
	} id;
};

struct kernfs_node___since_6_15 {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

typedef struct {
	int counter;
} atomic_t;

struct list_head {
	struct list_head *next;
};

struct signal_struct {
	atomic_t live;
	int nr_threads;
	struct list_head thread_head;
	int group_exit_code;
};

struct task_struct {
	void *stack;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct list_head thread_node;
	unsigned int __state; /* since 5.14 */
	unsigned int flags;
	int on_cpu; /* only with SMP */
	int exit_state;
	unsigned long nvcsw;
	unsigned long nivcsw;
	int exit_code;
	struct pid *thread_pid;
	struct nsproxy *nsproxy;
	struct mm_struct *mm;
	struct css_set *cgroups;
	char comm[16];
	__u64 start_boottime;
	unsigned long sas_ss_sp;
	unsigned long sas_ss_size;
	struct thread_struct thread;
	unsigned int kasan_depth; /* only with KASAN, which doubles the size of kernel stacks */
};

struct task_struct___before_5_5 {
	__u64 real_start_time;
};

struct task_struct___before_5_14 {
	long state;
};

struct pid_link { /* up to 4.18 */
	struct pid *pid;
};

struct task_struct___before_4_19 {
	struct pid_link pids[3];
};

struct pt_regs___x86 {
	unsigned long ip;
};

struct pt_regs___arm64 {
	__u64 pc;
};

#pragma clang attribute pop

/* Used for its size, and on arm64 for what it has beside the user's registers. */
struct pt_regs___size {
	__u64 orig_x0;
	__s32 syscallno;
} __attribute__((preserve_access_index));

/* If the kernel has this type, x86 leaves 16 bytes free above the registers. */
struct fred_info {
} __attribute__((preserve_access_index));

/* Used to test whether the kernel has a helper: its BTF lists them. */
enum bpf_func_id___probe {
	BPF_FUNC_task_pt_regs___probe = 1,
	BPF_FUNC_ktime_get_tai_ns___probe = 2,
};

#define has_helper(name) \
	bpf_core_enum_value_exists(enum bpf_func_id___probe, BPF_FUNC_##name##___probe)

#endif
