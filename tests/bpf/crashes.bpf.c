// SPDX-License-Identifier: GPL-2.0
// Every kind of map, loops, calls and tail calls, at the place where the tool's own program
// runs: counts the signals of one number that one process gets.
//
// Built by: clang-19 -g -O2 -target bpf -mcpu=v3 -ffile-compilation-dir=. -c crashes.bpf.c -o crashes.bpf.o
// and then:  llvm-strip-19 -g crashes.bpf.o
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct kernel_siginfo {
	int si_signo;
	int si_code;
} __attribute__((preserve_access_index));

struct scratch {
	__u64 steps;
	char bytes[4096];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} segfault_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} segfault_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u64);
} segfault_last SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 8);
} segfault_array SEC(".maps");

int segfault_tail(void *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} segfault_calls SEC(".maps") = {
	.values = { [1] = (void *)&segfault_tail },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} segfault_unused SEC(".maps");

const volatile __u32 target_signal = 0;
const volatile __u32 target_pid = 0;

__u64 seen = 0;
__u64 delivered = 0;
__u64 looped = 0;
__u64 tailed = 0;
__u64 ringed = 0;

static __noinline struct scratch *own_scratch(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&segfault_scratch, &zero);
}

static long step(__u32 index, void *context)
{
	struct scratch *scratch = own_scratch();
	if (!scratch)
		return 1;
	scratch->steps++;
	scratch->bytes[index & 4095] = 1;
	__sync_fetch_and_add(&looped, 1);
	return 0;
}

SEC("raw_tp/signal_deliver")
int segfault_main(struct bpf_raw_tracepoint_args *ctx)
{
	struct kernel_siginfo *info = (void *)ctx->args[1];
	__u64 id = bpf_get_current_pid_tgid();
	__u32 code, slot = 3, *record;
	__u64 *count;

	__sync_fetch_and_add(&seen, 1);
	if ((__u32)ctx->args[0] != target_signal || id >> 32 != target_pid)
		return 0;
	code = BPF_CORE_READ(info, si_code);
	bpf_map_update_elem(&segfault_last, &id, &id, BPF_ANY);
	count = bpf_map_lookup_elem(&segfault_array, &slot);
	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_loop(5, step, 0, 0);
	record = bpf_ringbuf_reserve(&segfault_ring, sizeof(*record), 0);
	if (record) {
		*record = code;
		bpf_ringbuf_submit(record, 0);
		__sync_fetch_and_add(&ringed, 1);
	}
	__sync_fetch_and_add(&delivered, 1);
	bpf_tail_call(ctx, &segfault_calls, 1);
	return 0;
}

SEC("raw_tp/signal_deliver")
int segfault_tail(void *ctx)
{
	__sync_fetch_and_add(&tailed, 1);
	return 0;
}
