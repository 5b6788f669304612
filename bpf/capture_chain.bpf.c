// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0
/*
 * The capture programs of the methods `chain` and `tracepoint`, for kernels from 4.15 on
 * that cannot load bpf/capture.bpf.c. They write the same record at the same tracepoint:
 * a chain of small programs puts it together and sends it through a perf event array.
 * See chain.h.
 *
 * first -> begin -> context -> walk (list or tree) -> stack -> names, each as often as
 * needed and as tail calls allow. The one that has no tail call left sends the end. If
 * the stack is not the first one, then interrupted or switched, and stack again, come
 * before names. If there is a chain of frame pointers, compiled comes before names too.
 * With --threads, threads comes after names.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "chain.h"
#include "task.h"
#include "follow.h"
#include "chain_path.h"
#include "chain_walk.h"
#include "chain_stack.h"
#include "chain_compiled.h"
#include "chain_names.h"
#include "proof.h"
#include "chain_delivery.h"
#include "chain_threads.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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
	remember_fault(&s->glance, task, regs_pc(c, regs), bpf_ktime_get_ns());
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
	/* Until the walk over them has ended. */
	if (c->threads && !s->glance.handler)
		s->end.lost |= LOST_THREADS_CALLS;
	if (!(s->header.flags & HEADER_REGISTERS))
		count(b, register_failures);
	/* Up to 5.0 only the reader knows whether the header arrived: see send(). */
	if (send(ctx, s, &s->header, sizeof(s->header), 0)) {
		struct fold_key key = fold_key(&s->glance, regs_pc(c, regs));

		/* The next fault must not be folded into a record that was not sent. */
		bpf_map_delete_elem(&segfault_folds, &key);
		s->busy = 0;
		return SEEN;
	}
	go_on(ctx, s, c, STEP_CONTEXT);
	return finish(ctx, s, c);
}

/* Claims the scratch for a delivery of a monitored signal, or gives 0. */
static __always_inline struct scratch *claimed(__u64 signal)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();
	struct counters *b = books();

	/* Before anything reads the info: for SIGKILL it may be a small constant. */
	if (!s || !c || !b || signal > 63)
		return 0;
	if (b->only_thread ? !is_proof(b->only_thread, signal) : !(c->watched_signals >> signal & 1))
		return 0;
	count(b, detected);
	/* A scratch that waits for a further pass counts as free: that pass did not run. */
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
	/* A tail call returns only if it fails, which it does not while the tool runs. */
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

/* The arguments of the ordinary tracepoint, the same in every kernel. */
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
 * For kernels before 4.17, where nothing leads to the siginfo. The address of a fault is
 * the one that the processor reported, which the kernel keeps in the thread.
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
 * Further passes. The kernel runs these programs after the first one at the same delivery,
 * and each may make tail calls up to the limit: a process with a thousand mappings needs
 * more than one pass. Mostly there is nothing to do.
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
	/* As in begin(). */
	s->busy = 0;
	return SEEN;
}

/* The kernel attaches a program only once, so each pass is a separate program. */
#define PASS(number) \
	SEC("raw_tp/signal_deliver") \
	int segfault_more_##number(void *ctx) \
	{ \
		return more(ctx); \
	}

PASS(1)
PASS(2)
PASS(3)
PASS(4)
PASS(5)
PASS(6)

/* Also attached to the ordinary tracepoint: it does not read its arguments. */
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
		/* If there is no program for the walk: */
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

SEC("raw_tp/signal_deliver")
int segfault_threads(void *ctx)
{
	struct scratch *s = scratch();
	struct chain_config *c = config();

	return s && c ? send_threads(ctx, s, c) : SEEN;
}
