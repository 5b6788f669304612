// SPDX-License-Identifier: GPL-2.0
// One relocation a line: what each comes to on many kernels is written down in
// ../loader_kernels.rs. Only compiled and relocated, never run.
//
// Built by: clang-19 -g -O2 -target bpf -mcpu=v3 -ffile-compilation-dir=. -c kernels.bpf.c -o kernels.bpf.o
// and then:  llvm-strip-19 -g kernels.bpf.o
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#define ACCESS __attribute__((preserve_access_index))

struct kernel_siginfo {
	int si_code;
	union {
		struct {
			unsigned int _uid;
		} _kill;
		struct {
			void *_addr;
		} _sigfault;
	} _sifields;
} ACCESS;

struct mm_struct;
struct vm_area_struct;
struct file;

struct maple_tree {
	void *ma_root;
} ACCESS;

struct maple_range_64 {
	unsigned long pivot[15];
	void *slot[16];
} ACCESS;

struct maple_arange_64 {
	unsigned long pivot[9];
	void *slot[10];
} ACCESS;

typedef struct {
	void *vdso;
} ACCESS mm_context_t;

struct mm_struct {
	struct vm_area_struct *mmap;
	struct maple_tree mm_mt;
	int map_count;
	unsigned long start_stack;
	mm_context_t context;
} ACCESS;

struct vm_area_struct {
	unsigned long vm_start, vm_end;
	struct vm_area_struct *vm_next;
	struct mm_struct *vm_mm;
	unsigned long vm_flags;
	unsigned long vm_pgoff;
	struct file *vm_file;
} ACCESS;

struct thread_struct {
	unsigned long cr2, error_code, trap_nr, fault_address, fault_code;
} ACCESS;

struct task_struct {
	void *stack;
	int pid, tgid;
	char comm[16];
	struct mm_struct *mm;
	struct thread_struct thread;
	__u64 start_boottime;
	__u64 real_start_time;
	unsigned int in_execve : 1;
	unsigned int sched_reset_on_fork : 1;
	unsigned int frozen : 1;
} ACCESS;

/* The two layouts have nothing in common but the name. */
struct pt_regs___x86 {
	unsigned long sp, ip, cs;
} ACCESS;

struct pt_regs___arm64 {
	__u64 sp, pc, pstate;
} ACCESS;

struct pt_regs___size {
} ACCESS;

struct ns_common {
	unsigned int inum;
} ACCESS;

struct mnt_namespace {
	struct ns_common ns;
} ACCESS;

struct pid_namespace;

struct upid {
	int nr;
	struct pid_namespace *ns;
} ACCESS;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} ACCESS;

struct path {
	void *mnt, *dentry;
} ACCESS;

struct inode;

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
} ACCESS;

struct backing_file {
	struct path user_path;
} ACCESS;

struct vfsmount {
	void *mnt_root;
} ACCESS;

struct mount {
	struct vfsmount mnt;
} ACCESS;

struct kernfs_node {
	struct kernfs_node *parent;
} ACCESS;

struct fred_info {
} ACCESS;

enum bpf_func_id___any {
	BPF_FUNC_get_current_task___any = 1,
	BPF_FUNC_loop___any = 2,
	BPF_FUNC_task_pt_regs___any = 3,
	BPF_FUNC_ktime_get_tai_ns___any = 4,
	BPF_FUNC_no_such___any = 5,
};

enum maple_type___any {
	maple_leaf_64___any = 70,
	maple_arange_64___any = 71,
};

volatile __u64 out[64] = {};

#define OFFSET(type, field) out[__COUNTER__] = bpf_core_field_offset(struct type, field)
#define EXISTS(type, field) out[__COUNTER__] = bpf_core_field_exists(struct type, field)
#define SIZE(type) out[__COUNTER__] = bpf_core_type_size(struct type)
#define INFO(type, field, kind) \
	out[__COUNTER__] = __builtin_preserve_field_info(((struct type *)0)->field, kind)

SEC("raw_tp/kernels")
int kernels(void *ctx)
{
	OFFSET(kernel_siginfo, si_code);
	OFFSET(kernel_siginfo, _sifields._kill._uid);
	OFFSET(kernel_siginfo, _sifields._sigfault._addr);
	SIZE(kernel_siginfo);
	SIZE(pt_regs___size);
	EXISTS(pt_regs___x86, ip);
	OFFSET(pt_regs___x86, ip);
	OFFSET(pt_regs___x86, cs);
	OFFSET(pt_regs___x86, sp);
	EXISTS(pt_regs___arm64, pc);
	OFFSET(pt_regs___arm64, sp);
	OFFSET(pt_regs___arm64, pstate);
	EXISTS(mm_struct, mmap);
	EXISTS(mm_struct, mm_mt.ma_root);
	OFFSET(mm_struct, mm_mt.ma_root);
	OFFSET(mm_struct, map_count);
	OFFSET(mm_struct, start_stack);
	OFFSET(mm_struct, context.vdso);
	OFFSET(maple_range_64, pivot[3]);
	OFFSET(maple_range_64, slot);
	OFFSET(maple_arange_64, slot[2]);
	OFFSET(vm_area_struct, vm_start);
	OFFSET(vm_area_struct, vm_end);
	EXISTS(vm_area_struct, vm_next);
	OFFSET(vm_area_struct, vm_flags);
	OFFSET(vm_area_struct, vm_file);
	OFFSET(task_struct, stack);
	OFFSET(task_struct, tgid);
	OFFSET(task_struct, comm[5]);
	OFFSET(task_struct, thread.cr2);
	OFFSET(task_struct, thread.fault_address);
	EXISTS(task_struct, start_boottime);
	EXISTS(task_struct, real_start_time);
	INFO(task_struct, in_execve, BPF_FIELD_BYTE_OFFSET);
	INFO(task_struct, in_execve, BPF_FIELD_LSHIFT_U64);
	INFO(task_struct, in_execve, BPF_FIELD_RSHIFT_U64);
	INFO(task_struct, comm, BPF_FIELD_BYTE_SIZE);
	INFO(task_struct, pid, BPF_FIELD_SIGNED);
	OFFSET(mnt_namespace, ns.inum);
	OFFSET(pid, numbers[0].ns);
	SIZE(upid);
	OFFSET(file, f_path.dentry);
	OFFSET(file, f_inode);
	EXISTS(backing_file, user_path);
	OFFSET(mount, mnt.mnt_root);
	EXISTS(kernfs_node, parent);
	out[__COUNTER__] = bpf_core_type_exists(struct fred_info);
	out[__COUNTER__] = bpf_core_enum_value_exists(enum bpf_func_id___any, BPF_FUNC_loop___any);
	out[__COUNTER__] = bpf_core_enum_value_exists(enum bpf_func_id___any, BPF_FUNC_task_pt_regs___any);
	out[__COUNTER__] = bpf_core_enum_value_exists(enum bpf_func_id___any, BPF_FUNC_ktime_get_tai_ns___any);
	out[__COUNTER__] = bpf_core_enum_value_exists(enum bpf_func_id___any, BPF_FUNC_no_such___any);
	out[__COUNTER__] = bpf_core_enum_value(enum bpf_func_id___any, BPF_FUNC_get_current_task___any);
	out[__COUNTER__] = bpf_core_enum_value(enum maple_type___any, maple_arange_64___any);
	return 0;
}
