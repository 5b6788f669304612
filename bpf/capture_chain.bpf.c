// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0
/*
 * The capture program for kernels from 4.15 on, where bpf/capture.bpf.c does not
 * go: the same record from the same tracepoint, put together by a chain of small
 * programs and sent through a perf event array. See chain.h.
 *
 * first -> begin -> context -> walk (list or tree) -> stack -> names, each as often as
 * needed and as tail calls allow; whichever runs out of them sends the end. Where
 * the stack is not the first one, interrupted or switched, and stack again, come
 * before names; so does compiled where there is a chain of frame pointers.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "chain.h"

#include <bpf/bpf_core_read.h>

#include "task.h"
#include "follow.h"
#include "chain_path.h"
#include "chain_walk.h"
#include "chain_stack.h"
#include "chain_compiled.h"
#include "chain_names.h"
#include "proof.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define PID_NS_LEVELS 4		/* looked at for the tool's own */
#define REGS_X86_PC 16		/* words into pt_regs, and into user_pt_regs */
#define REGS_X86_SP 19
#define REGS_ARM64_SP 31
#define REGS_ARM64_PC 32
#define SIGINFO_CODE 8		/* bytes into siginfo_t, which user space sees too */
#define SIGINFO_WORDS 16
#define PF_TRAP 14

/*
 * Where the kernel keeps the registers with which the task entered it: at the
 * top of its stack. Where the task's field for that is not known, the stack that
 * this runs on is rounded up, which holds up to 6.12, on x86.
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

/* The number of `pid` as the tool's namespace has it, or 0. */
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

/* -p, and never ourselves. */
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

/*
 * Keeps a fault that a handler is about to take: if that handler fails, or
 * sends the signal on, the fatal delivery that follows has lost the address.
 */
static __always_inline void remember_fault(struct chain_config *c, struct glance *g,
					   struct task_struct *task, const void *regs)
{
	struct event_fault fault = {};
	__u32 tid = bpf_get_current_pid_tgid();

	if (g->code <= 0 || g->handler <= SIG_IGN)
		return;
	fault.address = g->siginfo;
	fault.pc = read_word(regs + (c->aarch64 ? REGS_ARM64_PC : REGS_X86_PC) * 8);
	read_trap(task, &fault.thread_address, &fault.error_code, &fault.trap);
	fault.boot_ns = bpf_ktime_get_ns();
	fault.identity = thread_identity(task);
	fault.signal = g->signal;
	fault.code = g->code;
	bpf_map_update_elem(&segfault_first, &tid, &fault, BPF_ANY);
}

/* Moves the remembered fault of this very thread into a fatal delivery's header. */
static __always_inline void recall_fault(struct event_header *h, struct task_struct *task)
{
	__u32 tid = h->host_tid;
	struct event_fault *fault = bpf_map_lookup_elem(&segfault_first, &tid);

	if (!fault)
		return;
	h->first = *fault;
	/* Another's that had this number, or overwritten as we read it. */
	if (h->first.identity != thread_identity(task))
		return;
	h->flags |= HEADER_FIRST_FAULT;
	bpf_map_delete_elem(&segfault_first, &tid);
}

static __always_inline struct fold_key fold_key(struct chain_config *c, struct glance *g, const void *regs)
{
	return (struct fold_key){
		.pc = read_word(regs + (c->aarch64 ? REGS_ARM64_PC : REGS_X86_PC) * 8),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.signal = g->signal,
		.code = g->code,
	};
}

/* Handled faults are no crashes: see fold.h. */
static __always_inline int is_counted_only(struct chain_config *c, struct glance *g, const void *regs)
{
	if (!c->fold_ns || g->handler <= SIG_IGN)
		return 0;
	struct fold_key key = fold_key(c, g, regs);

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
		s->walk.sp = h->regs[REGS_ARM64_SP];
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

	h->part.kind = PART_HEADER;
	h->part.size = sizeof(*h);
	h->part.id = (__u64)bpf_get_smp_processor_id() << 48 | ++s->count;
	h->flags = g->flags | HEADER_MONOTONIC;
	h->boot_ns = bpf_ktime_get_ns();
	h->start_ns = thread_start(leader);
	h->siginfo = g->siginfo;
	h->siginfo_more[0] = g->siginfo_more[0];
	h->siginfo_more[1] = g->siginfo_more[1];
	h->handler = g->handler;
	h->handler_flags = g->handler_flags;
	h->repeats = g->repeats;
	h->signal = g->signal;
	h->code = g->code;
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

SEC("raw_tp/signal_deliver")
int segfault_begin(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct scratch *s = scratch();
	struct chain_config *c = config();
	struct counters *b = books();
	const void *regs;
	__u32 pid;

	if (!s || !c || !b)
		return SEEN;
	if (has_address(s->glance.code))
		count(b, fault_info_captured);
	else
		count(b, fault_info_missed);
	regs = user_regs(s, c, task);
	remember_fault(c, &s->glance, task, regs);
	pid = pid_for_us(c, pid_of(read_if_there(task, group_leader)));
	if (!b->only_thread && (!passes_filters(c, pid) || !passes_name(s, c, task))) {
		count(b, filtered);
		s->busy = 0;
		return SEEN;
	}
	if (!b->only_thread && s->glance.handler > SIG_IGN && s->glance.code > 0)
		b->followed_until_ns = follow(task, bpf_ktime_get_ns());
	if (!b->only_thread && is_counted_only(c, &s->glance, regs)) {
		count(b, folded);
		s->busy = 0;
		return SEEN;
	}
	count(b, captured);
	clear(&s->calls, offsetof(struct scratch, walk.vma) - offsetof(struct scratch, calls));
	s->began_ns = bpf_ktime_get_ns();
	fill_header(s, c, task, regs, pid);
	if (!(s->header.flags & HEADER_REGISTERS))
		count(b, register_failures);
	/* Whether it has arrived the reader knows; from 5.1 on so do we. */
	if (send(ctx, s, &s->header, sizeof(s->header), 0)) {
		struct fold_key key = fold_key(c, &s->glance, regs);

		/* The next of them must not be folded into a record that is not there. */
		bpf_map_delete_elem(&segfault_folds, &key);
		s->busy = 0;
		return SEEN;
	}
	go_on(ctx, s, c, STEP_CONTEXT);
	return finish(ctx, s, c);
}

/* Claims the scratch for a delivery that is watched; then the chain begins. */
static __always_inline struct scratch *claimed(__u64 signal)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();
	struct counters *b = books();

	/* First of all: for SIGKILL the info may be a small constant. */
	if (!s || !c || !b || signal > 63)
		return 0;
	if (b->only_thread ? !is_proof(b->only_thread, signal) : !(c->watched_signals >> signal & 1))
		return 0;
	count(b, detected);
	/* Put off to a pass that has not come is as good as free. */
	if (s->busy && !s->resume) {
		count(b, dropped);
		count(b, dropped_busy);
		return 0;
	}
	s->busy = 1;
	s->resume = 0;
	s->glance.signal = signal;
	s->glance.flags = 0;
	s->glance.repeats = 0;
	return s;
}

static __always_inline int begin(void *ctx, struct scratch *s)
{
	struct counters *b;

	tail_call(ctx, STEP_BEGIN);
	/* Not reached while the tool runs. */
	s->busy = 0;
	b = books();
	if (b)
		count(b, dropped);
	return SEEN;
}

/* Arguments of the raw tracepoint: include/trace/events/signal.h. */
struct delivery {
	__u64 signal;
	const void *info;
	const void *action;
};

SEC("raw_tp/signal_deliver")
int segfault_first_raw(struct delivery *ctx)
{
	const void *info = ctx->info, *action = ctx->action;
	struct scratch *s = claimed(ctx->signal);

	if (!s)
		return SEEN;
	s->glance.code = read_word(info + SIGINFO_CODE);
	s->glance.siginfo = read_word(info + SIGINFO_WORDS);
	s->glance.siginfo_more[0] = read_word(info + SIGINFO_WORDS + 8);
	s->glance.siginfo_more[1] = read_word(info + SIGINFO_WORDS + 16);
	s->glance.handler = read_word(action);
	s->glance.handler_flags = read_word(action + 8);
	return begin(ctx, s);
}

/* The tracepoint's record, the same in every kernel. */
struct delivery_record {
	__u64 common;
	__s32 signal;
	__s32 errno_;
	__s32 code;
	__u32 pad;
	__u64 handler;
	__u64 handler_flags;
};

/*
 * Before 4.17: no way to the siginfo. A fault's address is what the processor has
 * left with the thread.
 */
SEC("tp/signal/signal_deliver")
int segfault_event(struct delivery_record *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct scratch *s = claimed((__u32)ctx->signal);
	__u64 address = 0, unused, trap = PF_TRAP;
	__s32 code = ctx->code;

	if (!s)
		return SEEN;
	read_trap(task, &address, &unused, &trap);
	if (!has_address(code) || trap != PF_TRAP)
		address = 0;
	s->glance.code = code;
	s->glance.siginfo = address;
	s->glance.siginfo_more[0] = 0;
	s->glance.siginfo_more[1] = 0;
	s->glance.handler = ctx->handler;
	s->glance.handler_flags = ctx->handler_flags;
	s->glance.flags = HEADER_NO_SENDER;
	return begin(ctx, s);
}

/*
 * Further passes. The kernel runs these after the first at the same delivery, each with
 * tail calls of its own: a process with a thousand mappings takes more than one program
 * has. Mostly there is nothing to do.
 */
static __always_inline int more(void *ctx)
{
	struct scratch *s = scratch();
	__u64 step;

	if (!s || !s->resume || s->header.host_tid != (__u32)bpf_get_current_pid_tgid())
		return SEEN;
	step = s->resume - 1;
	s->resume = 0;
	tail_call(ctx, step);
	/* Not reached while the tool runs. */
	s->busy = 0;
	return SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_more_1(void *ctx)
{
	return more(ctx);
}

SEC("raw_tp/signal_deliver")
int segfault_more_2(void *ctx)
{
	return more(ctx);
}

SEC("raw_tp/signal_deliver")
int segfault_more_3(void *ctx)
{
	return more(ctx);
}

/* Also attached as a tracepoint, of which it reads nothing. */
SEC("raw_tp/sched_process_exit")
int segfault_exit(void *ctx)
{
	struct event_exit exit = {};
	struct counters *b = books();

	if (!b || !b->followed_until_ns || b->followed_until_ns < bpf_ktime_get_ns())
		return SEEN;
	if (fill_exit(&exit, (void *)bpf_get_current_task(), bpf_ktime_get_ns()))
		bpf_perf_event_output(ctx, &segfault_events, BPF_F_CURRENT_CPU, &exit, sizeof(exit));
	return SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_context(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();
	struct task_struct *task = (void *)bpf_get_current_task();
	struct mm_struct *mm;

	if (!s || !c)
		return SEEN;
	mm = read_if_there(task, mm);
	s->names.heads = c->stack_bytes;
	s->names.is_foreign = s->header.mnt_ns && s->header.mnt_ns != c->own_mnt_ns;
	send_cgroup(ctx, s, task);
	if (mm) {
		send_exe(ctx, s, mm);
		send_cmdline(ctx, s, is_narrow(s, c));
		walk_begin(s, mm);
		go_on(ctx, s, c, STEP_WALK);
		/* Without a walk: */
		go_on(ctx, s, c, STEP_STACK);
	}
	return finish(ctx, s, c);
}

SEC("raw_tp/signal_deliver")
int segfault_list(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? walk_list(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_tree(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? walk_tree(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_stack(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_stack(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_interrupted(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_interrupted(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_switched(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_switched(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_compiled(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_compiled(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_names(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_names(ctx, s, c) : SEEN;
}

SEC("raw_tp/signal_deliver")
int segfault_memory(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_memory(ctx, s, c) : SEEN;
}
