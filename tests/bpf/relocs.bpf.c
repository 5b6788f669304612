// SPDX-License-Identifier: GPL-2.0
// Relocations that check themselves: each program returns 0, or the line of the first
// expectation that does not hold. Offsets are compared with what other relocations and
// helpers say, so the programs hold on any kernel with BTF. Programs whose name begins
// with `err_` must be refused.
//
// Built by: clang-19 -g -O2 -target bpf -mcpu=v3 -ffile-compilation-dir=. -c relocs.bpf.c -o relocs.bpf.o
// and then:  llvm-strip-19 -g relocs.bpf.o
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#define ACCESS __attribute__((preserve_access_index))

struct list_head {
	struct list_head *next, *prev;
} ACCESS;

struct pid;

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *real_parent, *group_leader;
	struct pid *thread_pid;
	/* Narrower here than in the kernel: loads are widened. */
	unsigned int start_time;
	unsigned int flags;
	/* A bit field in the kernel. */
	unsigned int in_execve : 1;
	unsigned int sched_reset_on_fork : 1;
	struct list_head tasks;
} ACCESS;

struct task_struct___gone {
	int pid;
	int no_such_field;
} ACCESS;

struct task_struct___wrong {
	/* An int in the kernel: a struct does not match. */
	struct list_head pid;
} ACCESS;

struct pid___local {
	unsigned int level;
} ACCESS;

struct upid {
	int nr;
} ACCESS;

struct pid___numbers {
	struct upid numbers[1];
} ACCESS;

struct kernel_siginfo {
	int si_signo;
	int si_errno;
	int si_code;
	union {
		struct {
			int _pid;
			unsigned int _uid;
		} _kill;
		struct {
			void *_addr;
		} _sigfault;
	} _sifields;
} ACCESS;

struct no_such_struct {
	int field;
} ACCESS;

typedef __u32 no_such_typedef;

struct hlist_node___flavour {
	struct hlist_node___flavour *next, **pprev;
} ACCESS;

/* The kernel numbers these as it likes; the values here are wrong on purpose. */
enum pid_type___shuffled {
	PIDTYPE_SID___shuffled = 77,
	PIDTYPE_TGID___shuffled = 78,
	PIDTYPE_NO_SUCH___shuffled = 79,
};

enum bpf_func_id___mine {
	BPF_FUNC_get_current_task___mine = 1000,
	BPF_FUNC_no_such_helper___mine = 1001,
};

#define CHECK(what) if (!(what)) return __LINE__

/* A constant and a table, to be changed by the loader. */
const volatile __u32 wanted = 5;
const volatile __u64 wide = 0x1122334455667788ULL;
static const volatile __u32 table[4] = { 10, 20, 30, 40 };
__u64 counter = 0;
static __u64 hidden = 0;
__u32 initialized = 7;

SEC("raw_tp/relocs_offsets")
int offsets(void *ctx)
{
	CHECK(bpf_core_field_offset(struct kernel_siginfo, si_signo) == 0);
	CHECK(bpf_core_field_offset(struct kernel_siginfo, si_errno) == 4);
	CHECK(bpf_core_field_offset(struct kernel_siginfo, si_code) == 8);
	CHECK(bpf_core_field_offset(struct kernel_siginfo, _sifields) == 16);
	CHECK(bpf_core_field_offset(struct kernel_siginfo, _sifields._sigfault._addr) == 16);
	CHECK(bpf_core_field_offset(struct kernel_siginfo, _sifields._kill._uid) == 20);
	CHECK(bpf_core_field_offset(struct list_head, prev) == 8);
	CHECK(bpf_core_field_offset(struct task_struct, tgid) ==
	      bpf_core_field_offset(struct task_struct, pid) + 4);
	CHECK(bpf_core_field_offset(struct task_struct, comm[3]) ==
	      bpf_core_field_offset(struct task_struct, comm) + 3);
	CHECK(bpf_core_field_offset(struct task_struct, tasks.prev) ==
	      bpf_core_field_offset(struct task_struct, tasks) + 8);
	CHECK(bpf_core_field_offset(struct hlist_node___flavour, pprev) == 8);
	CHECK(bpf_core_field_offset(struct pid___numbers, numbers[0].nr) ==
	      bpf_core_field_offset(struct pid___numbers, numbers));
	return 0;
}

SEC("raw_tp/relocs_sizes")
int sizes(void *ctx)
{
	CHECK(bpf_core_field_size(struct task_struct, comm) == 16);
	CHECK(bpf_core_field_size(struct task_struct, pid) == 4);
	CHECK(bpf_core_field_size(struct task_struct, start_time) == 8);
	CHECK(bpf_core_field_size(struct task_struct, real_parent) == 8);
	CHECK(bpf_core_type_size(struct kernel_siginfo) == 48);
	CHECK(bpf_core_type_size(struct list_head) == 16);
	CHECK(bpf_core_type_size(struct task_struct) > 1024);
	CHECK(bpf_core_type_size(struct no_such_struct) == 0);
	return 0;
}

SEC("raw_tp/relocs_existence")
int existence(void *ctx)
{
	CHECK(bpf_core_field_exists(struct task_struct, pid));
	CHECK(bpf_core_field_exists(struct task_struct, tasks.next));
	CHECK(!bpf_core_field_exists(struct task_struct___gone, no_such_field));
	CHECK(!bpf_core_field_exists(struct task_struct___wrong, pid));
	CHECK(!bpf_core_field_exists(struct no_such_struct, field));
	CHECK(bpf_core_type_exists(struct task_struct));
	CHECK(bpf_core_type_exists(struct hlist_node___flavour));
	CHECK(!bpf_core_type_exists(struct no_such_struct));
	CHECK(!bpf_core_type_exists(no_such_typedef));
	CHECK(bpf_core_type_id_kernel(struct task_struct) != 0);
	CHECK(bpf_core_type_id_kernel(struct no_such_struct) == 0);
	CHECK(bpf_core_type_id_local(struct task_struct) != 0);
	return 0;
}

SEC("raw_tp/relocs_signs")
int signs(void *ctx)
{
	struct task_struct *task = 0;
	CHECK(__builtin_preserve_field_info(task->pid, BPF_FIELD_SIGNED) == 1);
	CHECK(__builtin_preserve_field_info(task->flags, BPF_FIELD_SIGNED) == 0);
	return 0;
}

SEC("raw_tp/relocs_enums")
int enums(void *ctx)
{
	CHECK(bpf_core_enum_value_exists(enum pid_type___shuffled, PIDTYPE_SID___shuffled));
	CHECK(!bpf_core_enum_value_exists(enum pid_type___shuffled, PIDTYPE_NO_SUCH___shuffled));
	CHECK(bpf_core_enum_value(enum pid_type___shuffled, PIDTYPE_TGID___shuffled) == 1);
	CHECK(bpf_core_enum_value(enum pid_type___shuffled, PIDTYPE_SID___shuffled) == 3);
	CHECK(bpf_core_enum_value_exists(enum bpf_func_id___mine, BPF_FUNC_get_current_task___mine));
	CHECK(bpf_core_enum_value(enum bpf_func_id___mine, BPF_FUNC_get_current_task___mine) == 35);
	CHECK(!bpf_core_enum_value_exists(enum bpf_func_id___mine, BPF_FUNC_no_such_helper___mine));
	return 0;
}

/* What is read through relocated offsets is what helpers say. */
SEC("raw_tp/relocs_reads")
int reads(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 ids = bpf_get_current_pid_tgid();
	char comm[16] = {}, seen[16] = {};

	CHECK(BPF_CORE_READ(task, pid) == (int)ids);
	CHECK(BPF_CORE_READ(task, tgid) == (int)(ids >> 32));
	CHECK(BPF_CORE_READ(task, group_leader, pid) == (int)(ids >> 32));
	bpf_get_current_comm(comm, sizeof(comm));
	BPF_CORE_READ_INTO(&seen, task, comm);
	for (int i = 0; i < 4; i++)
		CHECK(comm[i] == seen[i]);
	/* PF_KTHREAD is 0x200000: whoever runs a test is no kernel thread. */
	CHECK((BPF_CORE_READ(task, flags) & 0x200000) == 0);
	CHECK(BPF_CORE_READ_BITFIELD_PROBED(task, in_execve) == 0);
	CHECK(BPF_CORE_READ_BITFIELD_PROBED(task, sched_reset_on_fork) == 0);
	return 0;
}

/* A poisoned instruction where nothing leads is no error. */
SEC("raw_tp/relocs_guarded")
int guarded(void *ctx)
{
	struct task_struct___gone *task = (void *)bpf_get_current_task();
	if (bpf_core_field_exists(task->no_such_field))
		return BPF_CORE_READ(task, no_such_field);
	return 0;
}

SEC("raw_tp/relocs_gone")
int err_gone(void *ctx)
{
	struct task_struct___gone *task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, no_such_field);
}

SEC("raw_tp/relocs_verifier")
int err_verifier(void *ctx)
{
	return *(volatile int *)0x10;
}

/* Global data: constants set by the loader, initialized and zero variables, static ones. */
SEC("raw_tp/relocs_data")
int data(void *ctx)
{
	__u32 index = wanted & 3;
	CHECK(wanted == 6);
	CHECK(wide == 0x1122334455667788ULL);
	CHECK(table[index] == 30);
	CHECK(initialized == 7);
	__sync_fetch_and_add(&counter, 3);
	__sync_fetch_and_add(&hidden, 1);
	CHECK(hidden >= 1);
	return 0;
}

/* Two programs in one section, and calls between functions. */
static __noinline int twice(int x)
{
	asm volatile("");
	return x * 2;
}

static __noinline int four_times(int x)
{
	asm volatile("");
	return twice(x) + twice(x);
}

int __noinline global_increment(int x)
{
	asm volatile("");
	return x + 1;
}

SEC("raw_tp/relocs_calls")
int calls_first(void *ctx)
{
	CHECK(four_times(3) == 12);
	CHECK(global_increment(1) == 2);
	return 0;
}

SEC("raw_tp/relocs_calls")
int calls_second(void *ctx)
{
	CHECK(twice(21) == 42);
	return 0;
}

/* Callbacks: the address of a function of the same object. */
static long add_index(__u32 index, void *context)
{
	*(__u64 *)context += twice(index);
	return 0;
}

static long stop_early(__u32 index, void *context)
{
	*(__u64 *)context += 1;
	return index == 4;
}

SEC("raw_tp/relocs_loop")
int loop(void *ctx)
{
	__u64 sum = 0, steps = 0;
	CHECK(bpf_loop(10, add_index, &sum, 0) == 10);
	CHECK(sum == 90);
	CHECK(bpf_loop(10, stop_early, &steps, 0) == 5);
	CHECK(steps == 5);
	return 0;
}
