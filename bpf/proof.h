/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * The proof at start. While `only_thread` of the books is not 0, the threads whose
 * names begin with these eight bytes are captured, past all filters, and nobody
 * else is seen or counted. The tool lets a child of its own with such a name fault,
 * looks at what comes of it, and clears the books: from then on the filters hold.
 */
#ifndef SEGFAULT_PROOF_H
#define SEGFAULT_PROOF_H

#include "common.h"

#define SIGBUS 7
#define SIGSEGV 11

/* Whether this delivery is that of the proof; `begins` is how its name begins. */
static __always_inline int is_proof(__u64 begins, __u64 signal)
{
	__u64 name[2] = {};

	bpf_get_current_comm(name, sizeof(name));
	return name[0] == begins && (signal == SIGBUS || signal == SIGSEGV);
}

#endif
