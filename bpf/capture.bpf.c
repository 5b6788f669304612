// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0
/*
 * The capture program of the method `ring`. When a monitored signal is delivered, it
 * writes a record of the crash into the ring, because microseconds later the process
 * is gone.
 *
 * It is attached to the raw tracepoint signal_deliver (kernel/signal.c, get_signal()),
 * which sees a signal whatever its origin: a page fault, a general protection fault,
 * kill(2). segfault_exit runs when a thread ends: see follow.h.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "kernel.h"
#include "scratch.h"
#include "share.h"
#include "path.h"
#include "mappings.h"
#include "identity.h"
#include "stack.h"
#include "memory.h"
#include "threads.h"
#include "proof.h"
#include "follow.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Arguments of the tracepoint: include/trace/events/signal.h. */
struct delivery {
	__u64 signal;
	struct kernel_siginfo *info;
	struct k_sigaction *action;
};

static __always_inline void look(struct glance *g, struct delivery *d)
{
	struct kernel_siginfo *info = d->info;
	struct k_sigaction *action = d->action;

	g->signal = d->signal;
	g->code = BPF_CORE_READ(info, si_code);
	const void *words = (void *)info + bpf_core_field_offset(info->_sifields._sigfault._addr);

	read_kernel(g->siginfo, words);
	bpf_probe_read_kernel(g->siginfo_more, sizeof(g->siginfo_more), words + 8);
	g->handler = (__u64)BPF_CORE_READ(action, sa.sa_handler);
	g->handler_flags = BPF_CORE_READ(action, sa.sa_flags);
	g->repeats = 0;
	g->flags = 0;
}

static __always_inline void fill_header(struct scratch *s, struct glance *g,
					struct task_struct *task, const void *regs)
{
	struct event_header *h = &s->header;
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	start_header(h, g, ++s->count, bpf_ktime_get_boot_ns());
	if (has_helper(ktime_get_tai_ns))
		h->tai_ns = bpf_ktime_get_tai_ns();
	h->start_ns = thread_start(leader);
	read_trap(task, &h->thread_address, &h->error_code, &h->trap);
	fill_identity(h, task, leader);
	if (g->handler <= SIG_IGN)
		recall_fault(h, task);
	if (mm)
		fill_memory_layout(h, mm);
	else
		h->flags |= HEADER_KERNEL_TASK;
	fill_registers(h, regs, task);
}

/* Sends the optional parts, the most important ones first. */
static __always_inline void send_details(struct scratch *s, struct task_struct *task,
					 const void *regs)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u64 pc = s->walk.until;

	s->walk.until = 0;
	if (mm) {
		find_interrupted(s, task);
		send_exe(s, mm);
		send_mappings(s, mm, pc);
		send_stack(s);
		send_compiled(s);
		send_memory(s);
		send_cmdline(s);
	}
	send_cgroup(s, task);
	if (mm)
		send_threads(s, task, regs);
}

static __always_inline void send_end(struct scratch *s)
{
	struct event_end *e = &s->end;

	if (!s->header.code_bytes)
		e->lost |= LOST_CODE;
	if (stack_bytes && !e->stack_bytes) {
		if (!(e->lost & LOST_RING_STACK))
			e->lost |= LOST_STACK_READ;
		count(stack_failures);
	}
	e->part.kind = PART_END;
	e->part.size = sizeof(*e);
	e->part.id = s->header.part.id;
	e->duration_ns = bpf_ktime_get_ns() - s->began_ns;
	send(e, sizeof(*e), BPF_RB_FORCE_WAKEUP);
}

/*
 * A header may use the space that is reserved for ends. If many CPUs crash at once and
 * the ring is small, no end may fit, so the header must wake the reader.
 */
static __always_inline long send_header(struct scratch *s)
{
	__u64 wake = BPF_RB_NO_WAKEUP;

	if (ring_free() < sizeof(s->header) + ring_reserve)
		wake = BPF_RB_FORCE_WAKEUP;
	return send(&s->header, sizeof(s->header), wake);
}

/* Handled faults are no crashes: see fold.h. */
static __always_inline int is_counted_only(struct glance *g, const void *regs)
{
	if (!fold_ns || g->handler <= SIG_IGN)
		return 0;
	struct fold_key key = fold_key(g, regs_pc(regs));

	return is_folded(&key, bpf_ktime_get_boot_ns(), fold_ns, &g->repeats);
}

static __always_inline void drop_for_room(struct glance *g, const void *regs)
{
	struct fold_key key = fold_key(g, regs_pc(regs));

	/* The next fault must not be folded into a record that was not sent. */
	bpf_map_delete_elem(&segfault_folds, &key);
	count(dropped_ring);
	count_drop();
}

static __always_inline void capture(struct scratch *s, struct glance *g,
				    struct task_struct *task, const void *regs)
{
	clear(&s->header, sizeof(s->header));
	clear(&s->end, sizeof(s->end));
	clear(&s->walk, offsetof(struct mapping_walk, node));
	clear(&s->compiled, offsetof(struct compiled, part));
	s->began_ns = bpf_ktime_get_ns();
	if (!share_allows((__u64)BPF_CORE_READ(task, mm, exe_file, f_inode), g->handler > SIG_IGN)) {
		drop_for_room(g, regs);
		return;
	}
	fill_header(s, g, task, regs);
	s->walk.sp = thread_sp(s->header.regs, !is_x86());
	s->walk.until = regs_pc(regs);
	if (!(s->header.flags & HEADER_REGISTERS))
		count(register_failures);
	if (send_header(s)) {
		drop_for_room(g, regs);
		return;
	}
	count(submitted);
	send_details(s, task, regs);
	send_end(s);
	share_charge();
}

/*
 * Read again at each use: if the value were kept, the verifier would follow all later
 * code twice, once for each outcome.
 */
static __always_inline __u64 only_thread(void)
{
	return *(volatile __u64 *)&counters.only_thread;
}

static __always_inline int is_seen(__u64 signal)
{
	__u64 only = only_thread();

	return only ? is_proof(only, signal) : signal < 64 && watched_signals >> signal & 1;
}

SEC("raw_tp/signal_deliver")
int segfault_probe(struct delivery *ctx)
{
	struct delivery d = { ctx->signal, ctx->info, ctx->action };
	struct task_struct *task = (void *)bpf_get_current_task();
	const void *regs;
	struct glance g;
	struct scratch *s;

	/* Before anything reads the info: for SIGKILL it may be a small constant. */
	if (!is_seen(d.signal))
		return 0;
	count(detected);
	look(&g, &d);
	regs = user_regs(task);
	if (has_address(g.code))
		count(fault_info_captured);
	else
		count(fault_info_missed);
	remember_fault(&g, task, regs_pc(regs), bpf_ktime_get_boot_ns());
	if (!only_thread() && !passes_filters(task)) {
		count(filtered);
		return 0;
	}
	s = scratch();
	if (!s || __sync_lock_test_and_set(&s->busy, 1)) {
		count(dropped_busy);
		count_drop();
		return 0;
	}
	if (!only_thread() && !(passes_tree(s, task) && passes_name(s, task))) {
		count(filtered);
		s->busy = 0;
		return 0;
	}
	if (!only_thread() && g.handler > SIG_IGN && g.code > 0)
		counters.followed_until_ns = follow(task, bpf_ktime_get_boot_ns());
	if (!only_thread() && is_counted_only(&g, regs)) {
		count(folded);
	} else {
		count(captured);
		capture(s, &g, task, regs);
	}
	s->busy = 0;
	return 0;
}

SEC("raw_tp/sched_process_exit")
int segfault_exit(void *ctx)
{
	struct event_exit exit = {};

	if (!counters.followed_until_ns || counters.followed_until_ns < bpf_ktime_get_boot_ns())
		return 0;
	if (fill_exit(&exit, (void *)bpf_get_current_task(), bpf_ktime_get_boot_ns()))
		send(&exit, sizeof(exit), BPF_RB_FORCE_WAKEUP);
	return 0;
}
