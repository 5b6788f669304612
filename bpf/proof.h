/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The proof at start. While `only_thread` of the counters is not 0, the programs capture
 * only threads whose names begin with these eight bytes. The filters do not apply, and no
 * other thread is counted. The tool lets a child with such a name fault, checks the
 * record, and clears the counters: from then on the filters apply.
 */
#ifndef SEGFAULT_PROOF_H
#define SEGFAULT_PROOF_H

#include "common.h"

#define SIGBUS 7
#define SIGSEGV 11

/* Whether this delivery belongs to the proof; `begins` is how the thread's name begins. */
static __always_inline int is_proof(__u64 begins, __u64 signal)
{
	__u64 name[2] = {};

	bpf_get_current_comm(name, sizeof(name));
	return name[0] == begins && (signal == SIGBUS || signal == SIGSEGV);
}

#endif
