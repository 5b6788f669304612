/* SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0 */
/*
 * How much of a stack is kept, where a signal frame has which register, and how a frame
 * record is recognized: two words, the caller's frame pointer and the return address.
 */
#ifndef SEGFAULT_FRAME_CHAIN_H
#define SEGFAULT_FRAME_CHAIN_H

#include "hidden.h"

#define RED_ZONE 128		/* x86-64 leaf functions use this much below sp */
#define TAIL_BYTES (32 * 1024)	/* of the oldest frames, kept in any case */

/* Offsets in a ucontext that the kernel wrote, from its uc_stack.ss_sp:
 * arch/x86/include/asm/sigframe.h, arch/arm64/kernel/signal.c. */
#define UC_STACK_SIZE 16	/* uc_stack.ss_size */
#define UC_SP_X86 (160 - 16)	/* uc_mcontext.gregs[REG_RSP] */
#define UC_SP_ARM64 (432 - 16)	/* uc_mcontext.sp */
#define UC_FP_X86 (120 - 16)	/* uc_mcontext.gregs[REG_RBP] */
#define UC_FP_ARM64 (416 - 16)	/* uc_mcontext.regs[29] */

/* The same in the ucontext of a 32-bit task of arm64, from its beginning. A frame without
 * siginfo has no uc_stack, but a mark: arch/arm64/kernel/signal32.c. */
#define UC_MARK_ARM 0x5ac3c35a	/* uc_flags */
#define UC_STACK_ARM 8		/* uc_stack */
#define UC_FP_ARM 76		/* uc_mcontext.arm_fp */
#define UC_SP_ARM 84		/* uc_mcontext.arm_sp */

#define RECORD_FRAME 512	/* kept below the first record on another stack: its function's frame */
#define MAX_RECORDS 64		/* of a chain of frame pointers that are followed */
#define REGS_X86_FP 4		/* words into pt_regs, and into user_pt_regs */
#define REGS_X86_CS 17
#define REGS_ARM64_FP 29
#define REGS_ARM_FP 11		/* of a 32-bit task, if it has one */

#define USER_CS_32 0x23		/* arch/x86/include/asm/segment.h */
#define USER_DS 0x2b

/* Part of struct sigcontext_32, from bp: arch/x86/include/uapi/asm/sigcontext.h. */
struct narrow_registers {
	__u32 fp;
	__u32 sp;
	__u32 others[7];
	__u32 cs;
	__u32 flags;
	__u32 sp_at_signal;
	__u32 ss;
};

/* uc_stack of a 32-bit task of arm64. */
struct narrow_stack {
	__u32 start;
	__u32 flags;
	__u32 size;
};

#define ARM64_CODE_BITS 48	/* of a return address: the bits above may be its signature */

/* The beginning of the first stack. Above it are neither frames nor code; and before 5.5
 * the helper could read kernel memory there. */
#define first_stack(s) ((s)->header.start_stack + ARGC_BYTES)

/* Whether the instruction before an address is a call, as far as its last bytes show. */
static __always_inline int follows_call(__u64 address, __u64 first, int aarch64)
{
	__u64 code = 0;

	if (aarch64)
		address &= (1ull << ARM64_CODE_BITS) - 1;
	if (address < PAGE_BYTES || address >= first)
		return 0;
	if (bpf_probe_read_user(&code, sizeof(code), (void *)(address - sizeof(code))))
		return 0;
	if (aarch64) {
		code >>= 32;
		/* bl; blr and blraa */
		return (code & 0xfc000000) == 0x94000000 || (code & 0xfefff000) == 0xd63f0000;
	}
	/* call rel32; a call through a register or memory, for each length that it can have */
	return (code >> 24 & 0xff) == 0xe8 || (code >> 48 & 0x38ff) == 0x10ff ||
	       (code >> 40 & 0x38ff) == 0x10ff || (code >> 32 & 0x38ff) == 0x10ff ||
	       (code >> 16 & 0x38ff) == 0x10ff || (code >> 8 & 0x38ff) == 0x10ff;
}

#endif
